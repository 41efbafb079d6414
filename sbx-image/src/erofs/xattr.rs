//! Extended attributes: those that several files share are stored once.
//!
//! ```text
//!     behind the inode:  header { filter u32, shared u8, 7 reserved }, shared × u32, entries
//!     entry:             name length u8, name space u8, value length u16, name, value, padded to 4
//!     shared area:       entries; a shared attribute's number is its offset in the area / 4
//! ```

use std::collections::HashMap;

use zerocopy::IntoBytes as _;

use super::format::{XATTR_HEADER, XATTR_PREFIXES, XattrEntry, XattrHeader};
use crate::node::Xattr;

/// Most shared attributes of one file: the counter has 8 bits.
const SHARED_MAX: usize = 255;

/// Attributes that are stored once.
#[derive(Debug, Default)]
pub(crate) struct SharedXattrs<'a> {
    numbers: HashMap<&'a Xattr<'a>, u32>,
    area: Vec<u8>,
}

impl<'a> SharedXattrs<'a> {
    /// Takes all attributes of all files, in an order that depends on the tree alone.
    pub(crate) fn collect(xattrs: impl Iterator<Item = &'a Xattr<'a>>) -> Self {
        let mut seen: HashMap<&'a Xattr<'a>, bool> = HashMap::new();
        let mut shared = Self::default();
        for xattr in xattrs {
            // The second occurrence makes it a shared one.
            match seen.get_mut(xattr) {
                None => {
                    seen.insert(xattr, false);
                }
                Some(known) if !*known => {
                    *known = true;
                    shared.add(xattr);
                }
                Some(_) => {}
            }
        }
        shared
    }

    /// The shared area.
    pub(crate) fn area(&self) -> &[u8] {
        &self.area
    }

    /// What stands behind the inode of a file with these attributes; empty for none.
    pub(crate) fn inline(&self, xattrs: &[Xattr<'_>]) -> Vec<u8> {
        if xattrs.is_empty() {
            return Vec::new();
        }
        let mut numbers = Vec::new();
        let mut entries = Vec::new();
        for xattr in xattrs {
            match self.numbers.get(xattr) {
                Some(number) if numbers.len() < SHARED_MAX => numbers.push(*number),
                _ => push_entry(&mut entries, xattr),
            }
        }
        let header = XattrHeader {
            name_filter: 0.into(),
            shared: u8::try_from(numbers.len()).unwrap_or(u8::MAX),
            reserved: [0; 7],
        };
        let mut bytes = Vec::with_capacity(XATTR_HEADER.saturating_add(entries.len()));
        bytes.extend_from_slice(header.as_bytes());
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&entries);
        bytes
    }

    fn add(&mut self, xattr: &'a Xattr<'a>) {
        // Entries are padded to 4 bytes; an area beyond 16 GiB cannot come from layers within their limits.
        if let Ok(number) = u32::try_from(self.area.len() / 4) {
            push_entry(&mut self.area, xattr);
            self.numbers.insert(xattr, number);
        }
    }
}

fn push_entry(bytes: &mut Vec<u8>, xattr: &Xattr<'_>) {
    let (name_index, name) = split_name(&xattr.name);
    let entry = XattrEntry {
        // Lengths were bounded when the layer was read.
        name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
        name_index,
        value_length: u16::try_from(xattr.value.len()).unwrap_or(u16::MAX).into(),
    };
    bytes.extend_from_slice(entry.as_bytes());
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&xattr.value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn split_name(name: &[u8]) -> (u8, &[u8]) {
    // The ingest keeps no attribute outside these name spaces.
    let split = |(prefix, index): &(&[u8], u8)| name.strip_prefix(*prefix).map(|rest| (*index, rest));
    XATTR_PREFIXES.iter().find_map(split).unwrap_or((0, name))
}
