//! The manifests in this repository, and in its documentation.

use std::{fs, path::Path};

use crate::{Catalogue, parse};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every block of KDL in a Markdown text, with the number of its first line. A block that is not a whole manifest
/// gets an image.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut block {
            None if line.trim() == "```kdl" => block = Some((index + 2, String::new())),
            Some(_) if line.trim() == "```" => blocks.extend(block.take()),
            Some((_, lines)) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None => {}
        }
    }
    blocks
}

#[test]
fn every_block_of_the_documentation_is_right() {
    let mut count = 0;
    for name in ["README.md", "docs/manifest.md"] {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for (line, block) in blocks(&text) {
            let whole = if block.lines().any(|line| line.starts_with("image ")) {
                block
            } else {
                format!("{block}\nimage \"debian\"\n")
            };
            let parsed =
                parse(name, whole.as_bytes()).unwrap_or_else(|faults| panic!("{name}:{line}: {faults:#?}"));
            assert!(parsed.warnings.is_empty(), "{name}:{line}: {:#?}", parsed.warnings);
            count += 1;
        }
    }
    assert!(count > 10, "only {count} blocks were found");
}

#[test]
fn every_agent_of_the_documentation_is_right() {
    let text = fs::read_to_string(root().join("docs/agents.md")).unwrap();
    let blocks = blocks(&text);
    assert!(!blocks.is_empty());
    for (line, block) in blocks {
        let mut catalogue = Catalogue::default();
        catalogue.add("acme", "docs/agents.md", block.into_bytes());
        catalogue.get("acme").unwrap().unwrap_or_else(|faults| panic!("docs/agents.md:{line}: {faults:#?}"));
    }
}

#[test]
fn every_manifest_in_the_repository_is_right() {
    let mut found = vec![root().join("sandbox.kdl")];
    for entry in fs::read_dir(root().join("examples")).into_iter().flatten() {
        found.push(entry.unwrap().path().join("sandbox.kdl"));
    }
    for path in found.iter().filter(|path| path.exists()) {
        let text = fs::read(path).unwrap();
        let parsed = parse(&path.display().to_string(), &text).unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert!(parsed.warnings.is_empty(), "{:#?}", parsed.warnings);
    }
}
