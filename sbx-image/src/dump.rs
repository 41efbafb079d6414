//! A stored layer in readable form, one line for each name: for tests, and for whoever looks into a store.
//!
//! ```text
//!     data: 8192 bytes
//!     d 0755 0:0 @0 / (implicit)
//!     - 0644 0:0 @1700000000 /etc/passwd: 12 bytes inline
//!       user.comment="…"
//!     - 0755 0:0 @1700000000 /usr/bin/make: 5000 bytes from block 0
//!     h /usr/bin/gmake = /usr/bin/make
//!     l 0777 0:0 @1700000000 /bin -> usr/bin
//!     w /etc/shadow
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::layer::stored::{self, StoredChild, StoredNode};
use crate::layer::{StoredError, TREE_FILE};
use crate::node::{BLOCK_BYTES, Content, Kind};

/// Describes the layer in `dir`.
///
/// # Errors
/// When its `tree` is missing or damaged.
pub fn layer(dir: &Path) -> Result<String, StoredError> {
    let bytes = stored::read(dir)?;
    let tree = stored::decode(&bytes, &dir.join(TREE_FILE))?;
    let mut text = format!("data: {} bytes\n", tree.data_bytes);
    let mut names: HashMap<usize, String> = HashMap::new();
    let mut pending = vec![(String::from("/"), StoredChild::Node(0))];
    while let Some((path, child)) = pending.pop() {
        let StoredChild::Node(number) = child else {
            push(&mut text, format_args!("w {path}"));
            continue;
        };
        if let Some(first) = names.get(&number) {
            push(&mut text, format_args!("h {path} = {first}"));
            continue;
        }
        let Some(one) = tree.nodes.get(number) else { continue };
        node(&mut text, &path, one);
        pending.extend(children(&path, one));
        names.insert(number, path);
    }
    Ok(text)
}

/// Entries of a directory with their paths, the first last.
fn children(path: &str, one: &StoredNode<'_>) -> Vec<(String, StoredChild)> {
    let directory = path.trim_end_matches('/');
    let child =
        |(name, child): &(&[u8], StoredChild)| (format!("{directory}/{}", name.escape_ascii()), *child);
    one.children.iter().rev().map(child).collect()
}

fn node(text: &mut String, path: &str, one: &StoredNode<'_>) {
    let attributes = &one.node.attributes;
    let (letter, detail) = match &one.node.kind {
        Kind::Directory(flags) => {
            let opaque = if flags.opaque { " (opaque)" } else { "" };
            ('d', format!("{opaque}{}", if flags.implicit { " (implicit)" } else { "" }))
        }
        Kind::Regular { size, content } => ('-', format!(": {size} bytes {}", place(content))),
        Kind::Symlink { target } => ('l', format!(" -> {}", target.escape_ascii())),
        Kind::Character(device) => ('c', format!(" {}:{}", device.major, device.minor)),
        Kind::Block(device) => ('b', format!(" {}:{}", device.major, device.minor)),
        Kind::Fifo => ('p', String::new()),
    };
    let modified = attributes.modified;
    let fraction = match modified.nanoseconds {
        0 => String::new(),
        nanoseconds => format!("+{nanoseconds}ns"),
    };
    let (mode, uid, gid) = (attributes.mode, attributes.uid, attributes.gid);
    push(
        text,
        format_args!("{letter} {mode:04o} {uid}:{gid} @{}{fraction} {path}{detail}", modified.seconds),
    );
    for xattr in &attributes.xattrs {
        push(text, format_args!("  {}=\"{}\"", xattr.name.escape_ascii(), xattr.value.escape_ascii()));
    }
}

fn place(content: &Content<'_>) -> String {
    match content {
        Content::Inline(_) => "inline".into(),
        Content::Blocks { first_block } => format!("from block {first_block}"),
        Content::Chunks { chunk_bits, runs } => {
            let mut text = format!("in chunks of {}", BLOCK_BYTES << chunk_bits);
            for run in runs {
                let end = run.first_chunk.saturating_add(run.chunks);
                // Writing to a string cannot fail.
                let _ = write!(text, ", {}..{end} from block {}", run.first_chunk, run.first_block);
            }
            text
        }
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
