//! Contents of directories: blocks of sorted entries, each block searchable by itself.
//!
//! ```text
//!     block: entry 0 │ entry 1 │ … │ name 0 │ name 1 │ … │ zeros        entry: nid u64, name offset u16, type u8, 0
//! ```
//!
//! `.` and `..` are sorted in with the others. The number of entries follows from the first entry's name offset.

use zerocopy::IntoBytes as _;

use super::format::{BLOCK, DIRENT, Dirent};

/// One entry, its inode's number and file type known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) file_type: u8,
}

/// Length of a directory with these names in bytes: whole blocks and what the last one uses.
pub(crate) fn length<'a>(names: impl Iterator<Item = &'a [u8]>) -> usize {
    let (mut full, mut used) = (0usize, 0usize);
    for name in names {
        let need = name.len().saturating_add(DIRENT);
        if used.saturating_add(need) > BLOCK {
            full = full.saturating_add(BLOCK);
            used = 0;
        }
        used = used.saturating_add(need);
    }
    full.saturating_add(used)
}

/// The directory's contents; `entries` ascend.
pub(crate) fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0usize;
        let fits = |entry: &&Entry<'_>| {
            used = used.saturating_add(entry.name.len()).saturating_add(DIRENT);
            used <= BLOCK
        };
        // At least one: a name has at most 255 bytes.
        let count = rest.iter().take_while(fits).count().max(1);
        let (block, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        encode_block(&mut bytes, block);
        rest = after;
    }
    bytes
}

fn encode_block(bytes: &mut Vec<u8>, entries: &[Entry<'_>]) {
    let mut name_offset = entries.len().saturating_mul(DIRENT);
    for entry in entries {
        let dirent = Dirent {
            nid: entry.nid.into(),
            name_offset: u16::try_from(name_offset).unwrap_or(u16::MAX).into(),
            file_type: entry.file_type,
            reserved: 0,
        };
        bytes.extend_from_slice(dirent.as_bytes());
        name_offset = name_offset.saturating_add(entry.name.len());
    }
    for entry in entries {
        bytes.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_agrees_with_the_contents_at_block_borders() {
        for name_length in [1, 100, 244, 255] {
            for count in [0, 1, 15, 16, 17, 39, 40, 600] {
                let names: Vec<Vec<u8>> =
                    (0..count).map(|at| vec![b'a' + u8::try_from(at % 26).unwrap(); name_length]).collect();
                let entries: Vec<_> = names.iter().map(|name| Entry { name, nid: 1, file_type: 1 }).collect();
                assert_eq!(
                    encode(&entries).len(),
                    length(names.iter().map(Vec::as_slice)),
                    "{count} × {name_length}"
                );
            }
        }
    }
}
