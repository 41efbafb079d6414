//! Whiteout rules of the OCI image specification (layer.md, "Whiteouts").
//!
//! | name of the entry | meaning, for lower layers only |
//! |---|---|
//! | `.wh.NAME` | `NAME` beside it is gone |
//! | `.wh..wh..opq` | everything in this directory is gone |
//! | other `.wh..wh.*` | bookkeeping of aufs, not part of the image |

use crate::node::is_entry_name;

const PREFIX: &[u8] = b".wh.";
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the last component of an entry's path stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    /// An ordinary file of this name.
    File,
    /// The named sibling is hidden.
    Whiteout(&'a [u8]),
    /// Everything that lower layers have in the directory is hidden.
    Opaque,
    /// Nothing.
    Ignored,
    /// A whiteout of no name, `.` or `..`.
    Invalid,
}

/// Reads `name` as a whiteout marker.
pub(crate) fn marker(name: &[u8]) -> Marker<'_> {
    if name == OPAQUE {
        return Marker::Opaque;
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Marker::Ignored;
    }
    match name.strip_prefix(PREFIX) {
        None => Marker::File,
        Some(hidden) if is_entry_name(hidden) => Marker::Whiteout(hidden),
        Some(_) => Marker::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_specification_says() {
        for (name, expected) in [
            (&b"passwd"[..], Marker::File),
            (b"wh.passwd", Marker::File),
            (b".wh", Marker::File),
            (b".wh.passwd", Marker::Whiteout(b"passwd")),
            (b".wh..hidden", Marker::Whiteout(b".hidden")),
            (b".wh..wh..opq", Marker::Opaque),
            (b".wh..wh.plnk", Marker::Ignored),
            (b".wh..wh..opq.not", Marker::Ignored),
            (b".wh.", Marker::Invalid),
            (b".wh..", Marker::Invalid),
            (b".wh...", Marker::Invalid),
        ] {
            assert_eq!(marker(name), expected, "{}", name.escape_ascii());
        }
    }
}
