//! What the compiler does not check and a reviewer should not have to.
//!
//! Every fault is printed as `file:line: what, and what to do`. The rules are the house's, so they name what to do
//! about it rather than argue.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::cache;
use crate::output;
use crate::program::{self, ProgramError};

mod crates;

/// Longest Rust file, in lines before its tests.
const MAXIMUM_LINES: usize = 500;

/// Why the checkout is not tidy.
#[derive(Debug, Error)]
pub(crate) enum TidyError {
    /// git did not tell which files there are.
    #[error("cannot list the files of the checkout")]
    Git(#[from] ProgramError),
    /// There are faults; they have been printed.
    #[error("{count} to tidy up")]
    Faults {
        /// How many.
        count: usize,
    },
}

/// Something to tidy up.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Fault {
    path: PathBuf,
    line: usize,
    text: String,
}

/// A file of the checkout, as far as it is text.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    text: String,
}

/// The task.
pub(crate) fn run() -> Result<(), TidyError> {
    let sources = sources(cache::repository())?;
    let mut faults = crates::check(&sources);
    for source in &sources {
        faults.extend(check(source));
    }
    faults.extend(required(&sources));
    for Fault { path, line, text } in &faults {
        output::step("tidy", format_args!("{}:{line}: {text}", path.display()));
    }
    match faults.len() {
        0 => Ok(()),
        count => Err(TidyError::Faults { count }),
    }
}

/// Every text file that git knows or would add.
fn sources(repository: &Path) -> Result<Vec<Source>, TidyError> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository);
    let names = program::output(&mut list)?;
    let names = String::from_utf8_lossy(&names);
    let mut sources = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        // Deleted files are listed until the deletion is staged, and binary ones hold no text of ours.
        if let Ok(text) = fs::read_to_string(repository.join(name)) {
            sources.push(Source { path: PathBuf::from(name), text });
        }
    }
    Ok(sources)
}

fn check(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |line: usize, text: String| {
        faults.push(Fault { path: source.path.clone(), line, text });
    };
    let rust = source.path.extension().is_some_and(|extension| extension == "rs");
    if rust {
        let limited = !is_test(&source.path);
        let lines = source.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        if limited && lines > MAXIMUM_LINES {
            fault(MAXIMUM_LINES, format!("{lines} lines before the tests; split it by nouns"));
        }
        if is_crate_root(&source.path) && !source.text.contains(unsafe_rule(&source.path)) {
            fault(1, format!("the crate lacks `{}`", unsafe_rule(&source.path)));
        }
    }
    for (index, line) in source.text.lines().enumerate() {
        if let Some(text) = line_fault(&source.path, rust, line) {
            fault(index.saturating_add(1), text);
        }
    }
    faults
}

fn line_fault(path: &Path, rust: bool, line: &str) -> Option<String> {
    // Lock files name cargo's own registry, and the licence is not ours to edit.
    if path.ends_with("Cargo.lock") || path == Path::new("LICENSE") {
        return None;
    }
    for (left, right, advice) in FORBIDDEN {
        // What Docker calls docker.io answers at other names, which whoever reads references and credentials must know.
        if path.starts_with("sbx-image/src/registry") && *right == "er.io" {
            continue;
        }
        if line.contains(&format!("{left}{right}")) {
            return Some(format!("`{left}{right}`: {advice}"));
        }
    }
    if rust && !in_sys(path) && has_unsafe(line) {
        return Some("`unsafe` outside src/sys/; move it there behind a safe function".to_owned());
    }
    None
}

/// Text that no tracked file has, in two halves, so that this file has none either.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("todo", "!(", "write it"),
    ("unimplement", "ed!(", "write it"),
    ("/wo", "rk/", "a path of one machine; use a variable or a temporary directory"),
    ("/ro", "ot/.", "a path of one machine; use a variable or a temporary directory"),
    ("registry-1.dock", "er.io", "no registry's host is part of the source"),
    ("index.dock", "er.io", "no registry's host is part of the source"),
    ("index.crat", "es.io", "no registry's host is part of the source"),
    ("registry.npm", "js.org", "no registry's host is part of the source"),
    ("files.python", "hosted.org", "no registry's host is part of the source"),
    ("proxy.gol", "ang.org", "no registry's host is part of the source"),
];

/// Is the whole file tests, as its name or a directory's says?
fn is_test(path: &Path) -> bool {
    let names = path.components().filter_map(|component| component.as_os_str().to_str());
    names.into_iter().any(|name| matches!(name, "tests" | "tests.rs"))
}

fn in_sys(path: &Path) -> bool {
    path.components().any(|component| component.as_os_str() == "sys" || component.as_os_str() == "sys.rs")
}

/// Does the line begin an unsafe block, function, impl or trait, rather than speak of one?
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let starts = ["{", "fn ", "impl ", "impl<", "trait ", "extern "];
    let quoted = |before: &str| before.matches('"').count() % 2 == 1;
    code.match_indices("unsafe ").any(|(position, word)| {
        let (before, after) = code.split_at(position);
        let after = after.strip_prefix(word).unwrap_or_default();
        starts.iter().any(|start| after.starts_with(start)) && !quoted(before)
    })
}

fn is_crate_root(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    let depth = path.components().count();
    depth == 3 && parent.ends_with("src") && matches!(name, "lib.rs" | "main.rs")
}

/// What the root file of a crate must say about unsafe code.
fn unsafe_rule(path: &Path) -> &'static str {
    let allowed = ["sbx-vmm", "sbx-guest"];
    if allowed.iter().any(|name| path.starts_with(name)) {
        "#![deny(unsafe_code)]"
    } else {
        "#![forbid(unsafe_code)]"
    }
}

/// Files that must be there.
fn required(sources: &[Source]) -> Vec<Fault> {
    let paths: BTreeSet<&Path> = sources.iter().map(|source| source.path.as_path()).collect();
    let mut needed: BTreeSet<PathBuf> =
        ["README.md", "CHANGELOG.md", "LICENSE", ".ci/run"].map(PathBuf::from).into_iter().collect();
    for path in &paths {
        let mut parts = path.components();
        let (Some(first), Some(second), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if first.as_os_str() == "examples" {
            let example = Path::new("examples").join(second);
            needed.extend([example.join("sandbox.kdl"), example.join("README.md")]);
        }
    }
    let missing = needed.into_iter().filter(|path| !paths.contains(path.as_path()));
    missing.map(|path| Fault { path, line: 1, text: "is missing".to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.to_owned() };
        check(&source).into_iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect()
    }

    #[test]
    fn long_files_are_faults_but_long_tests_are_not() {
        let long = "let a = 1;\n".repeat(501);
        assert_eq!(faults("a/src/b.rs", &long), ["500: 501 lines before the tests; split it by nouns"]);
        assert!(faults("a/src/b/tests.rs", &long).is_empty());
        let tested = format!("fn a() {{}}\n#[cfg(test)]\n{long}");
        assert!(faults("a/src/b.rs", &tested).is_empty());
    }

    #[test]
    fn unsafe_code_stays_in_sys() {
        let code = "let a = unsafe { b() };\n";
        assert_eq!(faults("sbx-vmm/src/a.rs", code).len(), 1);
        assert!(faults("sbx-vmm/src/sys/a.rs", code).is_empty());
        assert!(
            faults("sbx-vmm/src/a.rs", "// unsafe { } is not for us\nlet a = \"unsafe {\";\n").is_empty()
        );
    }

    #[test]
    fn crate_roots_say_what_they_think_of_unsafe_code() {
        assert_eq!(faults("sbx-image/src/lib.rs", "//! Images.\n").len(), 1);
        assert!(faults("sbx-image/src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
        assert!(faults("sbx-vmm/src/lib.rs", "#![deny(unsafe_code)]\n").is_empty());
        assert!(faults("sbx-image/src/layer/lib.rs", "").is_empty());
    }

    #[test]
    fn loose_ends_and_machine_paths_are_faults() {
        for (left, right, _) in FORBIDDEN {
            assert_eq!(faults("docs/a.md", &format!("see {left}{right}x")).len(), 1);
        }
    }

    #[test]
    fn an_example_has_a_manifest_and_a_readme() {
        let present = ["README.md", "CHANGELOG.md", "LICENSE", ".ci/run", "examples/a/README.md"];
        let sources = present.map(|path| Source { path: path.into(), text: String::new() });
        let missing: Vec<PathBuf> = required(&sources).into_iter().map(|fault| fault.path).collect();
        assert_eq!(missing, [PathBuf::from("examples/a/sandbox.kdl")]);
    }
}
