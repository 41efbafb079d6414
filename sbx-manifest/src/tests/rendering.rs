//! What a terminal shows.

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::parse;

fn rendered(text: &str) -> String {
    let faults = match parse("sandbox.kdl", text.as_bytes()) {
        Ok(parsed) => parsed.warnings,
        Err(faults) => faults.iter().cloned().collect(),
    };
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    let mut shown = String::new();
    for fault in &faults {
        handler.render_report(&mut shown, fault).unwrap();
    }
    shown
}

#[test]
fn a_url_is_not_a_host() {
    insta::assert_snapshot!(rendered(r#"image "debian"
network "deny" {
    allow "https://api.github.com"
}
"#), @r#"
      × `allow` takes a host, not a URL
       ╭─[sandbox.kdl:3:11]
     2 │ network "deny" {
     3 │     allow "https://api.github.com"
       ·           ────────────┬───────────
       ·                       ╰── scheme and path are not part of a rule
     4 │ }
       ╰────
      help: allow "api.github.com" port=443
    "#);
}

#[test]
fn all_faults_come_at_once() {
    insta::assert_snapshot!(rendered(r#"agnt "claude"
image "Debian:12"
resources memory="8GB" cpus=0
mount ../lib readonly="yes"
"#), @r#"
      × there is no `agnt`
       ╭─[sandbox.kdl:1:1]
     1 │ agnt "claude"
       · ──┬─
       ·   ╰── not known
     2 │ image "Debian:12"
       ╰────
      help: agent "claude"
      × `Debian:12` is not an image
       ╭─[sandbox.kdl:2:7]
     1 │ agnt "claude"
     2 │ image "Debian:12"
       ·       ─────┬─────
       ·            ╰── names of images are in lower case
     3 │ resources memory="8GB" cpus=0
       ╰────
      help: image "debian:12"
      × `8GB` is not a size
       ╭─[sandbox.kdl:3:18]
     2 │ image "Debian:12"
     3 │ resources memory="8GB" cpus=0
       ·                  ──┬──
       ·                    ╰── not a whole number of KiB, MiB or GiB
     4 │ mount ../lib readonly="yes"
       ╰────
      help: memory="8GiB"
      × a machine cannot have 0 CPUs
       ╭─[sandbox.kdl:3:29]
     2 │ image "Debian:12"
     3 │ resources memory="8GB" cpus=0
       ·                             ┬
       ·                             ╰── from 1 to 254
     4 │ mount ../lib readonly="yes"
       ╰────
      help: cpus=4
      × `../lib` needs quotes
       ╭─[sandbox.kdl:4:7]
     3 │ resources memory="8GB" cpus=0
     4 │ mount ../lib readonly="yes"
       ·       ───┬──
       ·          ╰── a bare word cannot have these characters
       ╰────
      help: "../lib"
      × this must be #true or #false
       ╭─[sandbox.kdl:4:23]
     3 │ resources memory="8GB" cpus=0
     4 │ mount ../lib readonly="yes"
       ·                       ──┬──
       ·                         ╰── a string
       ╰────
      help: readonly=#true
    "#);
}

#[test]
fn both_places_are_shown() {
    insta::assert_snapshot!(rendered(r#"image "debian"
agent "claude"
agent "claude"
"#), @r#"
      × the agent `claude` is given twice
       ╭─[sandbox.kdl:3:7]
     1 │ image "debian"
     2 │ agent "claude"
       ·       ────┬───
       ·           ╰── the first
     3 │ agent "claude"
       ·       ────┬───
       ·           ╰── the second
       ╰────
      help: remove one of them
    "#);
}

#[test]
fn a_dead_rule_names_the_other() {
    insta::assert_snapshot!(rendered(r#"image "debian"
network "deny" {
    allow "api.github.com"
    deny "**.github.com"
}
"#), @r#"
      ⚠ this `allow` does nothing
       ╭─[sandbox.kdl:3:11]
     2 │ network "deny" {
     3 │     allow "api.github.com"
       ·           ────────┬───────
       ·                   ╰── refused all the same
     4 │     deny "**.github.com"
       ·          ───────┬───────
       ·                 ╰── a `deny` wins over every `allow`
     5 │ }
       ╰────
      help: remove one of them
    "#);
}

#[test]
fn an_empty_file_needs_an_image() {
    insta::assert_snapshot!(rendered(""), @r#"
      × the manifest names no image
       ╭─[sandbox.kdl:1:1]
       ╰────
      help: image "docker.io/library/debian:bookworm-slim"
    "#);
}

#[test]
fn terminals_are_not_obeyed() {
    insta::assert_snapshot!(rendered(r#"image "debian"
sandbox "a\u{1b}[31mred"
"#), @r#"
      × `a\u{1b}[31mred` cannot be a name
       ╭─[sandbox.kdl:2:9]
     1 │ image "debian"
     2 │ sandbox "a\u{1b}[31mred"
       ·         ────────┬───────
       ·                 ╰── only a-z, 0-9 and `-` are possible
       ╰────
      help: sandbox "a--31mred"
    "#);
}

#[test]
fn an_escape_character_is_refused() {
    insta::assert_snapshot!(rendered("image \"debian\"\nsandbox \"a\x1b[31mred\"\n"), @r#"
      × this character cannot be in a manifest
       ╭─[sandbox.kdl:2:11]
     1 │ image "debian"
     2 │ sandbox "a?[31mred"
       ·           ┬
       ·           ╰── U+001B
       ╰────
      help: in strings it is written \u{…}
    "#);
}
