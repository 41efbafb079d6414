//! Makes what a machine wrote into what belongs in a layer, so that the same steps give the same layer whenever, wherever
//! and by whomever they are taken.
//!
//! - Times that are later than the image are the image's.
//! - Caches, logs, temporary files and what is a machine's own are left out ([`Rule`]); names that lower layers have there
//!   stay as they are.
//! - Of the workspace only directories enter that were not in it before ([`Workspace`]).
//! - What is as it is in the layers below is left out.
//! - Links into the directories that are there in a running machine only are left out.

use std::collections::BTreeSet;
use std::io;

use thiserror::Error;

use crate::digest::Digest;
use crate::layer::stored::{LayerTree, StoredChild};
use crate::node::{Kind, Timestamp};

mod rules;
mod unchanged;
mod workspace;

pub use rules::{Action, Rule, RuleError};
pub(crate) use unchanged::Below;
pub use workspace::Workspace;

use workspace::{Found, Zone};

/// Most directories that setup commands may make in the workspace: each is one more mount of every boot.
pub(crate) const SETUP_DIRECTORIES_MAX: usize = 512;

/// Where the guest keeps what is its own; a link there leads nowhere as long as nothing runs.
const GUEST_OWN: &[u8] = b"/run/sbx/";

/// What becomes of the files that a machine wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalisation {
    /// The latest time that a file may have, in seconds since 1970.
    pub epoch_seconds: i64,
    /// What does not enter. Of several rules for one path the first counts.
    pub rules: Vec<Rule>,
    /// The workspace, where the machine had one of its own.
    pub workspace: Option<Workspace>,
    /// The layers that the machine ran on, lowest first: what is as it is there does not enter. None: whatever
    /// they are.
    pub below: Vec<Digest>,
}

/// Why what a machine wrote does not make a layer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NormalisationError {
    /// The contents of files cannot be compared.
    #[error("cannot compare files with those of the layers below")]
    Compare {
        /// Why.
        source: io::Error,
    },
    /// So many new directories in the workspace.
    #[error(
        "more than {limit} directories were made in the workspace; let the setup command make them below a few new ones"
    )]
    SetupDirectories {
        /// Most of them.
        limit: usize,
    },
}

/// A directory whose entries are being looked at.
struct Frame<'a> {
    directory: usize,
    /// Entries that were not looked at yet, the next one last.
    rest: Vec<(&'a [u8], StoredChild)>,
    kept: Vec<(&'a [u8], StoredChild)>,
    /// Whether the directory stays, even if nothing in it does.
    stays: bool,
    zone: Zone,
}

impl Normalisation {
    /// The usual rules, no workspace, and nothing below.
    #[must_use]
    pub fn new(epoch_seconds: i64) -> Self {
        Self { epoch_seconds, rules: rules::usual(), workspace: None, below: Vec::new() }
    }

    /// Changes the tree to what belongs in the layer. Gives the new directories of the workspace, relative to it.
    pub(crate) fn apply(
        &self,
        tree: &mut LayerTree<'_>,
        below: Option<&Below<'_>>,
    ) -> Result<Vec<String>, NormalisationError> {
        let mut found = BTreeSet::new();
        self.select(tree, &mut found)?;
        if let Some(below) = below {
            let compared = below.take_out(tree, self.epoch_seconds);
            compared.map_err(|source| NormalisationError::Compare { source })?;
        }
        self.clamp_times(tree);
        Ok(found.into_iter().collect())
    }

    /// Takes out what does not enter.
    fn select<'a>(
        &self,
        tree: &mut LayerTree<'a>,
        found: &mut BTreeSet<String>,
    ) -> Result<(), NormalisationError> {
        let mut path: Vec<&'a [u8]> = Vec::new();
        let mut stack: Vec<Frame<'a>> = Frame::enter(tree, 0, true, Zone::Outside).into_iter().collect();
        while let Some(frame) = stack.last_mut() {
            let Some((name, child)) = frame.rest.pop() else {
                leave(tree, &mut stack, &mut path);
                continue;
            };
            let kind = found_at(tree, child);
            let is_directory = kind == Found::Directory;
            path.push(name);
            let zone = frame.zone.of_child(self.workspace.as_ref(), &path, kind);
            let stays = match zone {
                Zone::Outside => self.is_kept(tree, &path, child, is_directory),
                Zone::Top | Zone::Copied => false,
                Zone::New => true,
                Zone::Dropped => {
                    path.pop();
                    continue;
                }
            };
            if matches!(zone, Zone::New) && matches!(frame.zone, Zone::Top | Zone::Copied) && is_directory {
                found.extend(workspace::relative(&path));
                if found.len() > SETUP_DIRECTORIES_MAX {
                    return Err(NormalisationError::SetupDirectories { limit: SETUP_DIRECTORIES_MAX });
                }
            }
            match child {
                StoredChild::Node(number) if is_directory => {
                    if let (Some(workspace), Zone::Top | Zone::Copied) = (&self.workspace, zone) {
                        workspace.give_attributes(tree, number);
                    }
                    // The workspace is there even if nothing was made in it: whoever made this layer had one.
                    let stays = stays || matches!(zone, Zone::Top);
                    stack.extend(Frame::enter(tree, number, stays, zone));
                }
                _ => {
                    if stays {
                        frame.kept.push((name, child));
                    }
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn is_kept(&self, tree: &LayerTree<'_>, path: &[&[u8]], child: StoredChild, is_directory: bool) -> bool {
        if let StoredChild::Node(number) = child
            && let Some(Kind::Symlink { target }) = tree.nodes.get(number).map(|stored| &stored.node.kind)
            && target.starts_with(GUEST_OWN)
        {
            return false;
        }
        self.rules.iter().find_map(|rule| rule.verdict(path, is_directory)).unwrap_or(true)
    }

    fn clamp_times(&self, tree: &mut LayerTree<'_>) {
        for stored in &mut tree.nodes {
            let modified = &mut stored.node.attributes.modified;
            if modified.seconds >= self.epoch_seconds {
                *modified = Timestamp { seconds: self.epoch_seconds, nanoseconds: 0 };
            }
        }
    }
}

impl<'a> Frame<'a> {
    fn enter(tree: &mut LayerTree<'a>, directory: usize, stays: bool, zone: Zone) -> Option<Self> {
        let mut rest = std::mem::take(&mut tree.nodes.get_mut(directory)?.children);
        rest.reverse();
        Some(Self { directory, rest, kept: Vec::new(), stays, zone })
    }
}

/// Ends with the innermost directory, which stays if anything in it does.
fn leave<'a>(tree: &mut LayerTree<'a>, stack: &mut Vec<Frame<'a>>, path: &mut Vec<&'a [u8]>) {
    let Some(Frame { directory, kept, stays, .. }) = stack.pop() else { return };
    let stays = stays || !kept.is_empty();
    if let Some(stored) = tree.nodes.get_mut(directory) {
        stored.children = kept;
    }
    if let (Some(name), Some(parent), true) = (path.pop(), stack.last_mut(), stays) {
        parent.kept.push((name, StoredChild::Node(directory)));
    }
}

fn found_at(tree: &LayerTree<'_>, child: StoredChild) -> Found {
    let StoredChild::Node(number) = child else { return Found::Nothing };
    let is_directory = tree.nodes.get(number).is_some_and(|stored| stored.node.is_directory());
    if is_directory { Found::Directory } else { Found::File }
}
