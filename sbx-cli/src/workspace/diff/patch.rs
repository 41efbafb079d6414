//! A difference in git's format.

use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{
    Delta, binary,
    lines::{Class, Comparison, Line},
    name::with_prefix,
};
use crate::workspace::{
    clone::{objects::Objects, record::Entry},
    tree::TreeError,
};

/// Larger files are taken for binary ones, and are in no patch that is only to be read.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Largest file in a patch.
const MAX_BYTES: u64 = 1 << 30;

/// How a patch is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// With the contents of binary files, so that it can be applied.
    pub(crate) binary: bool,
    /// Bytes of an object's name in the repository that it is for.
    pub(crate) hash_bytes: usize,
}

/// The lines of a patch for one difference.
///
/// # Errors
/// If contents cannot be read.
pub(crate) fn lines(delta: &Delta, objects: &Objects, form: Form) -> Result<Vec<Line>, TreeError> {
    let side = |file: &Option<(std::path::PathBuf, Entry)>| match file {
        Some((_, entry)) => Side::of(*entry, objects, form),
        None => Ok(Side { bytes: Some(Vec::new()), exists: false }),
    };
    let (old, new) = (side(&delta.from)?, side(&delta.to)?);
    let same =
        delta.from.as_ref().map(|(_, entry)| entry.hash) == delta.to.as_ref().map(|(_, entry)| entry.hash);
    let mut lines = headers(delta);
    if same {
        return Ok(lines);
    }
    let text = match (&old.bytes, &new.bytes) {
        (Some(old), Some(new)) => {
            let long = [old, new]
                .iter()
                .any(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_TEXT_BYTES);
            !long && !binary::is_binary(old) && !binary::is_binary(new)
        }
        _ => false,
    };
    lines.push(Line::new(Class::Header, &index(delta, &old, &new, form, form.binary && !text)));
    let [a, b] = [("a/", &delta.from), ("b/", &delta.to)].map(|(prefix, file)| match file {
        Some((path, _)) => with_prefix(prefix, path),
        None => "/dev/null".to_owned(),
    });
    match (&old.bytes, &new.bytes) {
        (Some(old), Some(new)) if text => {
            // An empty file has no hunks, and then git has no names either.
            let hunks = Comparison::of(old, new).hunks();
            if !hunks.is_empty() {
                // A name with a space ends with a tab, or it would not be known where it ends.
                let tail = |name: &str| if name.contains(' ') && !name.starts_with('"') { "\t" } else { "" };
                lines.push(Line::new(Class::Header, &format!("--- {a}{}", tail(&a))));
                lines.push(Line::new(Class::Header, &format!("+++ {b}{}", tail(&b))));
                lines.extend(hunks);
            }
        }
        (Some(old), Some(new)) if form.binary => {
            let body = binary::patch(old, new);
            lines.extend(
                body.split_inclusive(|byte| *byte == b'\n')
                    .map(|line| Line { class: Class::Other, bytes: line.to_vec() }),
            );
        }
        _ if form.binary => {
            return Err(TreeError::TooLarge { path: delta.path().to_path_buf(), limit: MAX_BYTES });
        }
        _ => lines.push(Line::new(Class::Other, &format!("Binary files {a} and {b} differ"))),
    }
    Ok(lines)
}

/// What is on one side.
struct Side {
    /// The contents; nothing if they are too many to be looked at.
    bytes: Option<Vec<u8>>,
    exists: bool,
}

impl Side {
    fn of(entry: Entry, objects: &Objects, form: Form) -> Result<Self, TreeError> {
        let limit = if form.binary { MAX_BYTES } else { MAX_TEXT_BYTES };
        Ok(Self { bytes: objects.read(&entry.hash, limit)?, exists: true })
    }

    /// Name of the contents as a git object; zeros for no file.
    fn object_name(&self, hash_bytes: usize) -> String {
        let Some(bytes) = self.bytes.as_ref().filter(|_| self.exists) else {
            return "0".repeat(hash_bytes * 2);
        };
        let heading = format!("blob {}\0", bytes.len());
        if hash_bytes == 32 {
            hexadecimal(&Sha256::new().chain_update(heading).chain_update(bytes).finalize())
        } else {
            hexadecimal(&Sha1::new().chain_update(heading).chain_update(bytes).finalize())
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn headers(delta: &Delta) -> Vec<Line> {
    let old_path =
        delta.from.as_ref().or(delta.to.as_ref()).map_or_else(|| Path::new(""), |(path, _)| path.as_path());
    let new_path = delta.path();
    let mut texts =
        vec![format!("diff --git {} {}", with_prefix("a/", old_path), with_prefix("b/", new_path))];
    match (&delta.from, &delta.to) {
        (None, Some((_, new))) => texts.push(format!("new file mode {}", new.mode.octal())),
        (Some((_, old)), None) => texts.push(format!("deleted file mode {}", old.mode.octal())),
        (Some((_, old)), Some((_, new))) if old.mode != new.mode => {
            texts.push(format!("old mode {}", old.mode.octal()));
            texts.push(format!("new mode {}", new.mode.octal()));
        }
        _ => {}
    }
    if let Some(similarity) = delta.similarity {
        texts.push(format!("similarity index {similarity}%"));
        texts.push(format!("rename from {}", with_prefix("", old_path)));
        texts.push(format!("rename to {}", with_prefix("", new_path)));
    }
    texts.iter().map(|text| Line::new(Class::Header, text)).collect()
}

/// The line with the names of the contents; whole ones where git insists on them.
fn index(delta: &Delta, old: &Side, new: &Side, form: Form, whole: bool) -> String {
    const SHORT: usize = 7;
    let name = |side: &Side| {
        let mut name = side.object_name(form.hash_bytes);
        if !whole {
            name.truncate(SHORT);
        }
        name
    };
    let mode = match (&delta.from, &delta.to) {
        (Some((_, old)), Some((_, new))) if old.mode == new.mode => format!(" {}", old.mode.octal()),
        _ => String::new(),
    };
    format!("index {}..{}{mode}", name(old), name(new))
}
