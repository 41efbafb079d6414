//! The files that the guest knows: nodes, by number and by identity.
//!
//! A node holds no descriptor. It remembers where it was found, as (directory's node, name), and is found there
//! again when it is needed, which succeeds only if what is there now is the same file. Directories keep an `O_PATH`
//! descriptor, of which a bounded number is open at a time, so that 20,000 files cost no 20,000 descriptors.
//!
//! ```text
//!            lookup, create, readdirplus                  forget, down to zero
//! (unknown) ───────────────────────────▶ node ──────────────────────────────────▶ (unknown)
//!                                        │  ▲
//!            directory needed: open      ▼  │  too many open: close the least used
//!                                  node with descriptor
//! ```

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::host::{Identity, Kind};
use super::name::Name;
use super::saved::{MOST_NUMBERS, NodeState, malformed};
use crate::virtio::RestoreError;

/// The device's own root, which lists the shares. FUSE fixes the number.
pub(super) const ROOT: u64 = fuse_backend_rs::abi::fuse_abi::ROOT_ID;

/// How many names of one file are remembered; a file with more hard links is found through the latest ones.
const NAMES_PER_NODE: usize = 8;

/// Where a node was found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Location {
    /// The directory's node.
    pub(super) parent: u64,
    /// The name in it.
    pub(super) name: CString,
}

impl Location {
    /// `name` in `parent`.
    pub(super) fn new(parent: u64, name: &CStr) -> Self {
        Self { parent, name: name.to_owned() }
    }

    fn is(&self, parent: u64, name: &CStr) -> bool {
        self.parent == parent && self.name.as_c_str() == name
    }
}

/// What an open tells about a file's contents: equal versions, equal contents.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    /// Time of the last modification, seconds and nanoseconds.
    pub(super) modified: (i64, u32),
    /// Length in bytes.
    pub(super) size: u64,
}

/// One file that the guest knows.
#[derive(Debug)]
pub(super) struct Node {
    /// Index of the share that it was found in. The same file in two shares is two nodes, for the rules differ.
    pub(super) share: usize,
    /// Which file it is.
    pub(super) identity: Identity,
    /// Whether it is a directory.
    pub(super) is_directory: bool,
    /// Where it was found, oldest first; one place for a directory, none for a share's root.
    pub(super) locations: Vec<Location>,
    /// The open files of the guest that are this node.
    pub(super) handles: Vec<u64>,
    /// What the guest may have in its page cache, if that is certain.
    pub(super) cached: Option<Version>,
    lookups: u64,
    directory: Option<Arc<OwnedFd>>,
    recently_used: bool,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes {
    by_number: HashMap<u64, Node>,
    by_identity: HashMap<(usize, Identity), u64>,
    next: u64,
    /// Nodes with an open directory, in the order of a second-chance queue. Share roots are not among them.
    open: VecDeque<u64>,
    most_open: usize,
}

impl Nodes {
    /// No nodes yet; at most `most_open` directories besides the shares' roots are kept open.
    pub(super) fn new(most_open: usize) -> Self {
        Self {
            by_number: HashMap::new(),
            by_identity: HashMap::new(),
            next: ROOT.saturating_add(1),
            open: VecDeque::new(),
            most_open: most_open.max(1),
        }
    }

    /// Adds the root of a share, which is never forgotten or closed. The first one is number 2, and so on.
    pub(super) fn add_share(&mut self, share: usize, identity: Identity, directory: Arc<OwnedFd>) -> u64 {
        let number = self.take_number();
        self.by_identity.insert((share, identity), number);
        self.by_number.insert(
            number,
            Node {
                share,
                identity,
                is_directory: true,
                locations: Vec::new(),
                handles: Vec::new(),
                cached: None,
                lookups: u64::MAX,
                directory: Some(directory),
                recently_used: true,
            },
        );
        number
    }

    /// The node of `identity`, found at `location`, with one more lookup to its account.
    pub(super) fn look_up(
        &mut self,
        share: usize,
        identity: Identity,
        is_directory: bool,
        location: Location,
    ) -> u64 {
        if let Some(number) = self.by_identity.get(&(share, identity)).copied()
            && let Some(node) = self.by_number.get_mut(&number)
        {
            node.lookups = node.lookups.saturating_add(1);
            node.found_at(location);
            return number;
        }
        let number = self.take_number();
        self.by_identity.insert((share, identity), number);
        self.by_number.insert(
            number,
            Node {
                share,
                identity,
                is_directory,
                locations: vec![location],
                handles: Vec::new(),
                cached: None,
                lookups: 1,
                directory: None,
                recently_used: false,
            },
        );
        number
    }

    /// The guest drops `count` lookups of a node; without any, the node is gone.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        let Some(node) = self.by_number.get_mut(&number) else { return };
        if node.lookups == u64::MAX {
            return;
        }
        node.lookups = node.lookups.saturating_sub(count);
        // An open file keeps its node, whatever the guest says: reads and writes name both.
        if node.lookups > 0 || !node.handles.is_empty() {
            return;
        }
        let key = (node.share, node.identity);
        if node.directory.is_some() {
            self.open.retain(|open| *open != number);
        }
        self.by_number.remove(&number);
        // After a restore it may be the identity of a share's root by now.
        if self.by_identity.get(&key) == Some(&number) {
            self.by_identity.remove(&key);
        }
    }

    /// The guest has the file `handle` open, which is this node.
    pub(super) fn add_handle(&mut self, number: u64, handle: u64) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.handles.push(handle);
        }
    }

    /// The guest closed a file; a node that it had forgotten meanwhile is gone.
    pub(super) fn close(&mut self, number: u64, handle: u64) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.handles.retain(|open| *open != handle);
            self.forget(number, 0);
        }
    }

    /// The node of a number that the guest sent.
    pub(super) fn get(&self, number: u64) -> Result<&Node, Errno> {
        self.by_number.get(&number).ok_or(Errno::STALE)
    }

    /// As [`Self::get`], to change it.
    pub(super) fn get_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.by_number.get_mut(&number).ok_or(Errno::STALE)
    }

    /// The number of a file, if the guest knows it.
    pub(super) fn find(&self, share: usize, identity: Identity) -> Option<u64> {
        self.by_identity.get(&(share, identity)).copied()
    }

    /// The open descriptor of a directory, if there is one.
    pub(super) fn directory(&mut self, number: u64) -> Result<Option<Arc<OwnedFd>>, Errno> {
        let node = self.get_mut(number)?;
        node.recently_used = true;
        Ok(node.directory.clone())
    }

    /// Keeps `directory` open for a node, and closes another one if there are too many.
    pub(super) fn keep_open(&mut self, number: u64, directory: Arc<OwnedFd>) {
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.recently_used = true;
        if node.directory.replace(directory).is_none() {
            self.open.push_back(number);
        }
        while self.open.len() > self.most_open {
            self.close_least_used();
        }
    }

    /// Closes every directory that can be opened again.
    pub(super) fn close_directories(&mut self) {
        while let Some(number) = self.open.pop_front() {
            if let Some(node) = self.by_number.get_mut(&number) {
                node.directory = None;
            }
        }
    }

    /// A name of `identity` is gone, because the guest removed or renamed it.
    pub(super) fn remove_name(&mut self, share: usize, identity: Identity, parent: u64, name: &CStr) {
        let Some(number) = self.find(share, identity) else { return };
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.locations.retain(|location| !location.is(parent, name));
    }

    /// A name of `identity` came to be, because the guest renamed or linked it.
    pub(super) fn add_name(&mut self, share: usize, identity: Identity, parent: u64, name: &CStr) {
        let Some(number) = self.find(share, identity) else { return };
        if let Some(node) = self.by_number.get_mut(&number) {
            node.found_at(Location::new(parent, name));
        }
    }

    /// Drops all nodes but the shares' roots.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.by_number.retain(|_, node| node.lookups == u64::MAX);
        self.by_identity.retain(|_, number| self.by_number.contains_key(number));
        for node in self.by_number.values_mut() {
            node.handles.clear();
        }
    }

    /// All nodes but the shares' roots, in the order of their numbers, and the number that comes next.
    pub(super) fn save(&self) -> (Vec<NodeState>, u64) {
        let known = self.by_number.iter().filter(|(_, node)| node.lookups != u64::MAX);
        let mut nodes: Vec<NodeState> = known
            .map(|(number, node)| NodeState {
                number: *number,
                share: node.share,
                identity: node.identity,
                locations: node.locations.clone(),
                cached: node.cached,
                lookups: node.lookups,
            })
            .collect();
        nodes.sort_unstable_by_key(|node| node.number);
        (nodes, self.next)
    }

    /// Adds the nodes that `save` told of to the roots of `shares` shares, which are all there are.
    pub(super) fn restore(
        &mut self,
        nodes: Vec<NodeState>,
        next: u64,
        shares: usize,
    ) -> Result<(), RestoreError> {
        let first = self.by_number.keys().copied().max().unwrap_or(ROOT).saturating_add(1);
        if !(first..MOST_NUMBERS).contains(&next) {
            return Err(malformed("the next node has the number of a share"));
        }
        self.next = next;
        let mut places = Vec::with_capacity(nodes.len());
        for saved in nodes {
            let number = saved.number;
            if !(first..next).contains(&number) || self.by_number.contains_key(&number) {
                return Err(malformed("a node has a number that was not given to it"));
            }
            if saved.share >= shares || saved.lookups == u64::MAX {
                return Err(malformed("a node is in no share"));
            }
            let key = (saved.share, saved.identity);
            match self.by_identity.get(&key) {
                // What is the root of the share now cannot be reached below it any more.
                Some(root) if *root < first => {}
                Some(_) => return Err(malformed("two nodes are one file")),
                None => {
                    self.by_identity.insert(key, number);
                    places.push((number, saved.locations));
                }
            }
            self.by_number.insert(
                number,
                Node {
                    share: saved.share,
                    identity: saved.identity,
                    is_directory: Kind::from(saved.identity) == Kind::Directory,
                    locations: Vec::new(),
                    handles: Vec::new(),
                    cached: saved.cached,
                    lookups: saved.lookups,
                    directory: None,
                    recently_used: false,
                },
            );
        }
        places.into_iter().try_for_each(|(number, locations)| self.restore_places(number, locations))
    }

    /// Gives a node its places, all of them in its own share: the rules of another one are others.
    fn restore_places(&mut self, number: u64, mut locations: Vec<Location>) -> Result<(), RestoreError> {
        let Some((share, is_directory)) =
            self.by_number.get(&number).map(|node| (node.share, node.is_directory))
        else {
            return Ok(());
        };
        if locations.len() > if is_directory { 1 } else { NAMES_PER_NODE } {
            return Err(malformed("a node has too many names"));
        }
        for location in &locations {
            if Name::try_from(location.name.as_c_str()).is_err() {
                return Err(malformed("a name is none"));
            }
            if let Some(parent) = self.by_number.get(&location.parent)
                && (parent.share != share || !parent.is_directory)
            {
                return Err(malformed("a node was found where it cannot be"));
            }
        }
        // Directories that the guest has forgotten have no number any more, and never will again.
        locations.retain(|location| self.by_number.contains_key(&location.parent));
        if let Some(node) = self.by_number.get_mut(&number) {
            node.locations = locations;
        }
        Ok(())
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    fn close_least_used(&mut self) {
        while let Some(number) = self.open.pop_front() {
            let Some(node) = self.by_number.get_mut(&number) else { continue };
            if std::mem::take(&mut node.recently_used) {
                self.open.push_back(number);
            } else {
                node.directory = None;
                return;
            }
        }
    }
}

impl Node {
    fn found_at(&mut self, location: Location) {
        if self.lookups == u64::MAX || self.locations.last() == Some(&location) {
            return;
        }
        if self.is_directory {
            self.locations.clear();
        } else {
            self.locations.retain(|known| *known != location);
            if self.locations.len() >= NAMES_PER_NODE {
                self.locations.remove(0);
            }
        }
        self.locations.push(location);
    }
}
