//! The walls between the crates: who may depend on whom, and that every crate takes the workspace's lints.
//!
//! Read from the manifests as text. They are ours and cargo has parsed them to get here, so a section is what stands
//! between two headers, and a dependency is a line that begins with its name.

use std::path::Path;

use super::{Fault, Source};

/// What a crate of ours may depend on among ours. Tests of the whole may know everything but are known by nobody.
const ARROWS: &[(&str, &[&str])] = &[
    ("sbx-cli", &["sbx-manifest", "sbx-image", "sbx-vmm", "sbx-net", "sbx-proto"]),
    ("sbx-guest", &["sbx-proto"]),
    ("sbx-image", &[]),
    ("sbx-manifest", &[]),
    ("sbx-net", &[]),
    ("sbx-proto", &[]),
    ("sbx-vmm", &[]),
    ("tests", &["sbx-manifest", "sbx-image", "sbx-vmm", "sbx-net", "sbx-proto"]),
    ("xtask", &[]),
];

/// Every fault in the manifests of member crates.
pub(super) fn check(sources: &[Source]) -> Vec<Fault> {
    let manifests = sources.iter().filter(|source| is_member(&source.path));
    manifests.flat_map(manifest_faults).collect()
}

fn is_member(path: &Path) -> bool {
    // fuzz/ is a workspace of its own, for another compiler.
    path.ends_with("Cargo.toml") && path.components().count() == 2 && !path.starts_with("fuzz")
}

fn manifest_faults(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, text: String| faults.push(Fault { path: source.path.clone(), line, text });
    let name = source.path.parent().and_then(Path::to_str).unwrap_or_default();
    let Some((_, allowed)) = ARROWS.iter().find(|(crate_name, _)| *crate_name == name) else {
        fault(
            1,
            format!("the crate {name} has no place in the walls; give it one in xtask/src/tidy/crates.rs"),
        );
        return faults;
    };
    let mut section = "";
    let mut inherits = false;
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        }
        inherits |= line == "lints.workspace = true" || (section == "[lints]" && line == "workspace = true");
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        let ours = section.contains("dependencies") && dependency.starts_with("sbx-");
        if ours && !allowed.contains(&dependency) {
            fault(index.saturating_add(1), format!("{name} may not depend on {dependency}"));
        }
    }
    if !inherits {
        fault(1, "lacks `lints.workspace = true`".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.to_owned() };
        check(&[source]).into_iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect()
    }

    #[test]
    fn siblings_never_import_each_other() {
        let text =
            "[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\nsbx-image.workspace = true\n";
        assert_eq!(faults("sbx-vmm/Cargo.toml", text), ["5: sbx-vmm may not depend on sbx-image"]);
        assert!(faults("sbx-cli/Cargo.toml", text).is_empty());
    }

    #[test]
    fn dev_dependencies_are_arrows_too() {
        let text = "lints.workspace = true\n[dev-dependencies]\nsbx-cli = { path = \"../sbx-cli\" }\n";
        assert_eq!(faults("sbx-proto/Cargo.toml", text), ["3: sbx-proto may not depend on sbx-cli"]);
    }

    #[test]
    fn lints_are_inherited_and_new_crates_find_a_place() {
        assert_eq!(faults("sbx-proto/Cargo.toml", "[package]\n"), ["1: lacks `lints.workspace = true`"]);
        assert_eq!(faults("sbx-new/Cargo.toml", "").len(), 1);
        assert!(faults("fuzz/Cargo.toml", "").is_empty());
    }
}
