//! Files that want to hurt: each is refused, or read, in bounded time and without ending the process.

use std::time::{Duration, Instant};

use kdl::KdlDocument;
use proptest::prelude::*;

use crate::{parse, scan, source::Source};

/// The promise for an optimised build.
const MAX_OPTIMISED: Duration = Duration::from_millis(50);

/// What an unoptimised build on a busy machine may take for the same.
const MAX_UNOPTIMISED: Duration = Duration::from_secs(5);

/// Size of the largest bombs. Without optimisation, as large as is needed to see that time grows with the size alone.
const LARGE: usize = if cfg!(debug_assertions) { 40_000 } else { scan::MANIFEST.max_bytes };

/// Texts that make a parser slow, or deep, when repeated.
const BOMBS: &[(&str, &str)] = &[
    ("", "a /-{\n"),
    ("", "/-a /-{\n"),
    ("", "/- "),
    ("", "/-a{"),
    ("a", " /-b"),
    ("a", " /-{}"),
    ("", "a {\n"),
    ("", "{"),
    ("", "}"),
    ("", "a{}b"),
    ("", "a{}"),
    ("", "a {} "),
    ("", "a;"),
    ("", "a\n"),
    ("", "("),
    ("", ")"),
    ("", "(a)"),
    ("a ", "(a)"),
    ("a", " (a)1"),
    ("a", " b=1"),
    ("a", " b="),
    ("", "="),
    ("", ";"),
    ("", "\n"),
    ("", "\r\n"),
    ("", " "),
    ("", "\u{3000}"),
    ("a", "\u{3000}"),
    ("", "/*"),
    ("/*", "*"),
    ("/*", "/"),
    ("/*", "*/ /*"),
    ("", "/**/"),
    ("a", "/**/"),
    ("", "//\n"),
    ("//", "a"),
    ("", "\\\n"),
    ("a", " \\\n"),
    ("a", "\\"),
    ("", "\""),
    ("a", " \"\""),
    ("a \"", "x"),
    ("a \"", "\\n"),
    ("a \"", "\\ "),
    ("a \"", "\\u{"),
    ("a \"\"\"\n", "x\n"),
    ("a \"\"\"\n", "\\\n"),
    ("a \"\"\"\n", "\\\nx"),
    ("a \"\"\"\n", "\"\""),
    ("a \"\"\"\n", " "),
    ("a \"\"\"\n", "\n"),
    ("", "\"\"\"\n"),
    ("a ", "#"),
    ("a #", "\""),
    ("a #\"", "\"# #\""),
    ("a #\"\"\"\n", "\"\"\""),
    ("a #\"\"\"\n", "\n \"\"\"#"),
    ("", "#\"\""),
    ("a ", "1"),
    ("a ", "1_"),
    ("a 0x", "f"),
    ("a ", "1."),
    ("a 1e", "1"),
    ("a ", "-"),
    ("a ", "true "),
    ("a ", "#true "),
    ("a ", "#x "),
    ("a ", "1x "),
    ("a ", "../x "),
    ("", "image \"x\"\n"),
    ("network { ", "allow \"a.example.com\";"),
    ("network { ", "deny \"10.0.0.0/8\";allow \"10.1.2.3\";"),
    ("env { ", "A \"b\";"),
    ("", "mount \"/a\" at=\"/b\"\n"),
    ("packages { apt ", "\"a\" "),
    ("", "unknown\n"),
    ("", "profile \"a\" { agent \"x\"; }\n"),
    ("", "\u{feff}"),
    ("", "\u{202e}"),
    ("", "\0"),
];

/// Time on the processor where the system tells: other tests run at the same time.
fn timed(text: &[u8]) -> Duration {
    let (started, on_processor) = (Instant::now(), processor_time());
    let _ = parse("sandbox.kdl", text);
    match (on_processor, processor_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => started.elapsed(),
    }
}

/// What this thread has used: the first number in schedstat, in nanoseconds.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

fn assert_quick(text: &[u8], what: &str) {
    let limit = if cfg!(debug_assertions) { MAX_UNOPTIMISED } else { MAX_OPTIMISED };
    let mut elapsed = timed(text);
    if std::env::var_os("SBX_SHOW_TIMES").is_some() && elapsed > limit / 5 {
        eprintln!("{what}: {elapsed:?}");
    }
    for _ in 0..4 {
        if elapsed < limit {
            return;
        }
        elapsed = timed(text);
    }
    panic!("{what}: {elapsed:?}");
}

#[test]
fn bombs_are_harmless_in_every_size() {
    for (before, repeated) in BOMBS {
        for bytes in [100, 3_000, LARGE] {
            let count = bytes.saturating_sub(before.len()) / repeated.len();
            let text = format!("{before}{}", repeated.repeat(count));
            assert_quick(text.as_bytes(), &format!("{before:?} then {repeated:?}, {bytes} bytes"));
        }
    }
}

#[test]
fn closed_bombs_are_harmless() {
    for (open, close) in [
        ("a{", "}"),
        ("a /-{", "}"),
        ("/-a{", "}"),
        ("/*", "*/"),
        ("a /-{\n", "}\n"),
        ("a {\n/-b {\n", "}}\n"),
    ] {
        for depth in [4, 16, 31, 32, 33, 64, 1_000, 20_000] {
            let text = format!("{}{}", open.repeat(depth), close.repeat(depth));
            assert_quick(text.as_bytes(), &format!("{open:?} {depth} deep"));
        }
    }
}

#[test]
fn what_is_not_text_is_refused() {
    let message = |text: &[u8]| parse("sandbox.kdl", text).unwrap_err().iter().next().unwrap().to_string();
    assert_eq!(message(b"image \"x\"\n\xff\n"), "the file is not UTF-8");
    assert_eq!(message(b"image \"x\0\"\n"), "this character cannot be in a manifest");
    assert!(message(&vec![b' '; 10 << 20]).starts_with("the file is too large"));
    assert_quick(&vec![0xff; 10 << 20], "10 MiB of 0xff");
    assert_quick(&vec![0; 10 << 20], "10 MiB of NUL");
}

/// A large file that is in order is read, and quickly.
#[test]
fn large_files_are_read() {
    let mut text = String::from("image \"debian\"\nnetwork {\n");
    for index in 0..900 {
        text.push_str(&format!("    allow \"host-{index}.example.com\" // a comment of some length\n"));
    }
    text.push_str("}\n");
    assert!(parse("sandbox.kdl", text.as_bytes()).is_ok());
    assert_quick(text.as_bytes(), "900 rules");

    let long =
        format!("image \"debian\"\nsetup \"{}\"\n/* {} */\n", "x".repeat(20_000), "* / ".repeat(8_000));
    assert!(parse("sandbox.kdl", long.as_bytes()).is_ok());
    assert_quick(long.as_bytes(), "long strings and comments");
}

/// The scan must not let anything pass that the parser stumbles over: recovering is where it recurses without a bound.
fn assert_parser_agrees(text: &str) {
    let source = Source::new("sandbox.kdl", text.to_owned());
    if let Ok(scanned) = scan::scan(&source, &scan::MANIFEST) {
        assert_eq!(scanned.text.len(), text.len());
        if let Err(error) = KdlDocument::parse_v2(&scanned.text) {
            panic!("{text:?} became {:?}: {error:?}", scanned.text);
        }
    }
}

/// What the parser reads, the scan must not refuse, and the nodes must be the same.
fn assert_same_as_parser(text: &str) {
    let Ok(expected) = KdlDocument::parse_v2(text) else { return };
    let source = Source::new("sandbox.kdl", text.to_owned());
    let scanned = scan::scan(&source, &scan::MANIFEST)
        .unwrap_or_else(|faults| panic!("{text:?} was refused: {faults:?}"));
    assert!(scanned.faults.is_empty(), "{text:?} was refused: {:?}", scanned.faults);
    let found = KdlDocument::parse_v2(&scanned.text).unwrap();
    assert_eq!(plain(&found), plain(&expected), "{text:?} became {:?}", scanned.text);
}

fn plain(document: &KdlDocument) -> String {
    let mut document = document.clone();
    document.autoformat_no_comments();
    document.to_string()
}

#[test]
fn the_parser_agrees_on_small_texts() {
    for text in [
        "a",
        "a b",
        "a b=c",
        "a b = c",
        "a {b}",
        "a { b; c }",
        "a{}",
        "a {};b",
        "a /-b c",
        "a /-b",
        "a /- b\nc",
        "a /-{b} {c}",
        "/-a\nb",
        "/-a {\nb\n}\nd",
        "/- \n a b\nc",
        "(t)a",
        "a (t)b",
        "a b=(t)1",
        "a /*x*/ b",
        "a /* /* */ */ b",
        "a // b\nc",
        "a \\\n b",
        "a \\ // x\n b",
        "a 1 1.5 0x1f 0b1 0o7 1_000 -1 +1 1e5 1.5e-3",
        "a #true #false #null #inf #-inf #nan",
        "a \"\"",
        "a \"\\n\\u{e9}\\ \n x\"",
        "a \"\"\"\n  x\n   y\n\n  \"\"\"",
        "a \"\"\"\n  x \\\n y\n  \"\"\"",
        "a #\"x\"#",
        "a ##\"x\"#y\"##",
        "a #\"\"\"\n  x\"\n  \"\"\"#",
        "a #\"\"#",
        "\u{feff}a",
        "\"a b\" \"c d\"=1",
        "- + . .. -- -a .a +.",
        "a,b <c> 'd'",
        "a\r\nb",
        "a\u{2028}b",
        "ä ö=ü",
        "a b;",
        "a b //",
        "a /-b=1 c=2",
        "a /-(t)b c",
        "a /-\"x\" c",
        "",
        "\n\n",
        "// x",
        "/* x */",
        "a { /-b }",
        "a { /-b; c }",
        "a\\\n",
        "a \\\n",
        "a {\n}\n\n",
        "a { b {c; d} e }",
    ] {
        assert_same_as_parser(text);
        assert_parser_agrees(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse("sandbox.kdl", &bytes);
    }

    /// Real manifests with pieces cut out and put in: none of it ends the process, and what passes is KDL.
    #[test]
    fn damaged_manifests_are_survived(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece()), 1..8),
    ) {
        let mut text = EVERYTHING.to_owned();
        for (place, removed, piece) in edits {
            let boundaries: Vec<_> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
            let start = place.index(boundaries.len());
            let end = (start + removed).min(boundaries.len() - 1);
            text.replace_range(boundaries[start]..boundaries[end], piece);
        }
        assert_parser_agrees(&text);
        if let Ok(parsed) = parse("sandbox.kdl", text.as_bytes()) {
            let _ = parsed.manifest.explain().to_string();
        }
    }

    /// Pieces of KDL in any order: whatever passes the scan passes the parser.
    #[test]
    fn the_parser_reads_all_that_passes(pieces in proptest::collection::vec(piece(), 0..24)) {
        assert_parser_agrees(&pieces.concat());
    }
}

/// Every node of the language, and every form of string.
const EVERYTHING: &str = r####"
sandbox "payments" // name
agent "claude" version="2" { args "--model" #"opus"#; }
image "docker.io/library/node:22-bookworm" platform="linux/amd64"
packages { apt "git" "ripgrep"; npm "typescript@5"; pip "ruff"; cargo "just"; }
setup """
    npm ci \
        --offline
    """ inputs="package-lock.json" timeout="10m"
start "redis-server --daemonize yes"
resources cpus=4 memory="8GiB" disk="40GiB"
workspace "." mode="direct" /* comment /* in a comment */ */
mount "~/.cargo/registry" readonly=#true
mount "../shared-lib" at="/src/shared-lib"
network "deny" {
    allow "api.github.com" "**.githubusercontent.com" \
        port=443
    allow "10.1.0.0/16" port="8000-8100" protocol="tcp"
    allow registries=#true
    /-deny "gist.github.com"
    host-service 5432; publish 3000; publish 8080 as=80
}
secret "GH_TOKEN" host="api.github.com" bearer=#true from="command:gh auth token"
env { RUST_LOG ##"de"#bug"##; TZ "\u{55}TC"; }
docker #true
mcp "github" command="github-mcp" /-{ args "x"; }
profile "ci" { agent "shell"; network "deny" {}; }
"####;

fn piece() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a",
        "b",
        "node",
        " ",
        " ",
        " ",
        "\n",
        "\n",
        ";",
        "{",
        "}",
        "{}",
        "(",
        ")",
        "(t)",
        "=",
        "/-",
        "/- ",
        "//",
        "/*",
        "*/",
        "\\",
        "\\\n",
        "\"",
        "\"x\"",
        "\"\"",
        "\"\"\"",
        "\"\"\"\n",
        "\n\"\"\"",
        "  ",
        "\\\"",
        "\\n",
        "\\u{41}",
        "\\ ",
        "#",
        "#\"",
        "\"#",
        "#\"\"\"\n",
        "\"\"\"#",
        "##\"",
        "1",
        "-1",
        "1.5",
        "0x",
        "0x1f",
        "1_",
        "e5",
        "-",
        "+",
        ".",
        "true",
        "#true",
        "#nan",
        "#inf",
        "inf",
        "\u{feff}",
        "\u{85}",
        "\u{3000}",
        "é",
        "a b=1",
        " c=",
        "\r\n",
        "\r",
        "[",
        "]",
        ",",
        "/",
        "'",
    ])
}
