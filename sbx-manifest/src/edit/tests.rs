//! What an edit makes of a text, and what it leaves as it was.

use proptest::prelude::*;

use super::{Change, EditError, Edited, NewRule, add_rule};
use crate::{model::Action, parse};

fn rule(action: Action, host: &str) -> NewRule {
    NewRule { action, host: host.parse().unwrap(), port: None, protocol: None }
}

fn allow(text: &str, host: &str) -> Result<Edited, EditError> {
    add_rule("sandbox.kdl", text.as_bytes(), None, &rule(Action::Allow, host))
}

/// What is before and after an `allow "x.com"` in the file.
const PLACES: &[(&str, &str)] = &[
    // A line below the last of its kind, indented like it.
    (
        "image \"d\"\nnetwork \"deny\" {\n    allow \"a.com\" // why\n    deny \"b.com\"\n}\n",
        "image \"d\"\nnetwork \"deny\" {\n    allow \"a.com\" // why\n    allow \"x.com\"\n    deny \"b.com\"\n}\n",
    ),
    (
        "network {\r\n\tallow \"a.com\" /* b\r\nc */\r\n\r\n\tpublish 80\r\n}\r\nimage \"d\"\r\n",
        "network {\r\n\tallow \"a.com\" /* b\r\nc */\r\n\tallow \"x.com\"\r\n\r\n\tpublish 80\r\n}\r\nimage \"d\"\r\n",
    ),
    (
        "image \"d\"\nnetwork {\n  allow \"a.com\";\n  allow \"b.com\"; // b\n}",
        "image \"d\"\nnetwork {\n  allow \"a.com\";\n  allow \"b.com\"; // b\n  allow \"x.com\";\n}",
    ),
    (
        "image \"d\"\nnetwork {\n  allow \"a.com\" \\\n    port=443\n}\n",
        "image \"d\"\nnetwork {\n  allow \"a.com\" \\\n    port=443\n  allow \"x.com\"\n}\n",
    ),
    (
        "image \"d\"\nnetwork {\n  allow \"a.com\" /-\n \"b.com\"\n}\n",
        "image \"d\"\nnetwork {\n  allow \"a.com\" /-\n \"b.com\"\n  allow \"x.com\"\n}\n",
    ),
    (
        "image \"d\"\nnetwork { allow \"a.com\" // a\n}\n",
        "image \"d\"\nnetwork { allow \"a.com\" // a\n    allow \"x.com\"\n}\n",
    ),
    // Behind it on its line.
    (
        "image \"d\"; network { allow \"a.com\"; deny \"b.com\" }",
        "image \"d\"; network { allow \"a.com\"; allow \"x.com\"; deny \"b.com\" }",
    ),
    (
        "image \"d\"\nnetwork { allow \"a.com\" /* a */ }\n",
        "image \"d\"\nnetwork { allow \"a.com\" /* a */; allow \"x.com\" }\n",
    ),
    (
        "image \"d\"\nnetwork {allow \"a.com\";}\n",
        "image \"d\"\nnetwork {allow \"a.com\"; allow \"x.com\";}\n",
    ),
    // After the other rules, or last.
    (
        "image \"d\"\nnetwork {\n  deny \"b.com\"\n  publish 80\n}\n",
        "image \"d\"\nnetwork {\n  deny \"b.com\"\n  allow \"x.com\"\n  publish 80\n}\n",
    ),
    (
        "image \"d\"\nnetwork {\n  publish 80\n  // the end\n}\n",
        "image \"d\"\nnetwork {\n  publish 80\n  // the end\n  allow \"x.com\"\n}\n",
    ),
    ("image \"d\"\nnetwork {\n}\n", "image \"d\"\nnetwork {\n    allow \"x.com\"\n}\n"),
    ("image \"d\"\nnetwork { publish 80 }\n", "image \"d\"\nnetwork { publish 80; allow \"x.com\" }\n"),
    ("image \"d\"\nnetwork { publish 80; }\n", "image \"d\"\nnetwork { publish 80; allow \"x.com\"; }\n"),
    ("image \"d\"\nnetwork {}\n", "image \"d\"\nnetwork { allow \"x.com\" }\n"),
    ("image \"d\"\nnetwork { }\n", "image \"d\"\nnetwork { allow \"x.com\" }\n"),
    (
        "image \"d\"\nnetwork { /-allow \"a.com\" }\n",
        "image \"d\"\nnetwork { /-allow \"a.com\"; allow \"x.com\" }\n",
    ),
    // A block for a node without one.
    (
        "image \"d\"\nnetwork \"deny\" // nothing\nenv {\n\tA \"b\"\n}\n",
        "image \"d\"\nnetwork \"deny\" {\n\tallow \"x.com\"\n} // nothing\nenv {\n\tA \"b\"\n}\n",
    ),
    ("image \"d\"; network; docker #true", "image \"d\"; network { allow \"x.com\" }; docker #true"),
    ("image \"d\"\nnetwork", "image \"d\"\nnetwork {\n    allow \"x.com\"\n}"),
    ("image \"d\"\nnetwork \"allow\" /-{ allow \"a.com\"; }\n", ""),
    // A node where there is none.
    ("image \"d\"\n", "image \"d\"\n\nnetwork \"deny\" {\n    allow \"x.com\"\n}\n"),
    ("image \"d\"\n\n", "image \"d\"\n\nnetwork \"deny\" {\n    allow \"x.com\"\n}\n"),
    ("image \"d\" // d", "image \"d\" // d\n\nnetwork \"deny\" {\n    allow \"x.com\"\n}"),
    (
        "\u{feff}image \"d\"\r\nenv {\r\n  A \"b\"\r\n}\r\n",
        "\u{feff}image \"d\"\r\nenv {\r\n  A \"b\"\r\n}\r\n\r\nnetwork \"deny\" {\r\n  allow \"x.com\"\r\n}\r\n",
    ),
];

#[test]
fn a_rule_is_put_where_a_person_would_put_it() {
    for (before, after) in PLACES {
        match allow(before, "x.com") {
            Ok(edited) => {
                assert_eq!(edited.text, *after, "{before:?}");
                let lines = edited.text.lines().nth(edited.line - 1).unwrap();
                assert!(lines.contains("allow \"x.com\""), "line {} of {:?}", edited.line, edited.text);
                assert_eq!(edited.rule, "allow \"x.com\"");
                let again = allow(&edited.text, "x.com").unwrap();
                assert_eq!(
                    (again.text, again.change, again.line),
                    (edited.text, Change::Nothing, edited.line)
                );
            }
            // Between the argument and what is removed there is no place.
            Err(error) => assert!(after.is_empty(), "{before:?}: {error}"),
        }
    }
}

#[test]
fn a_profile_gets_rules_of_its_own() {
    let rule = rule(Action::Allow, "x.com");
    for (before, after, change) in [
        (
            "image \"d\"\nprofile \"ci\" {\n  agent \"shell\"\n  network \"deny\" {}\n}\n",
            "image \"d\"\nprofile \"ci\" {\n  agent \"shell\"\n  network \"deny\" { allow \"x.com\" }\n}\n",
            Change::Rule,
        ),
        (
            "image \"d\"\nnetwork { allow \"x.com\" }\nprofile \"ci\" {\n\tagent \"shell\"\n}\n",
            "image \"d\"\nnetwork { allow \"x.com\" }\nprofile \"ci\" {\n\tagent \"shell\"\n\tnetwork \"deny\" {\n\t\tallow \"x.com\"\n\t}\n}\n",
            Change::Network,
        ),
        (
            "image \"d\"\nprofile \"ci\" { agent \"shell\"; }",
            "image \"d\"\nprofile \"ci\" { agent \"shell\"; network \"deny\" { allow \"x.com\" }; }",
            Change::Network,
        ),
        (
            "image \"d\"\nprofile \"ci\"\n",
            "image \"d\"\nprofile \"ci\" {\n    network \"deny\" {\n        allow \"x.com\"\n    }\n}\n",
            Change::Network,
        ),
    ] {
        let edited = add_rule("sandbox.kdl", before.as_bytes(), Some("ci"), &rule).unwrap();
        assert_eq!((edited.text.as_str(), edited.change), (after, change));
        let missing = add_rule("sandbox.kdl", before.as_bytes(), Some("cy"), &rule).unwrap_err();
        assert_eq!(missing.to_string(), "there is no profile \"cy\"");
    }
}

#[test]
fn ports_and_protocols_are_written_as_the_language_has_them() {
    let mut rule = rule(Action::Deny, "10.0.0.0/8");
    assert_eq!(rule.to_string(), "deny \"10.0.0.0/8\"");
    rule.port = Some("443".parse().unwrap());
    assert_eq!(rule.to_string(), "deny \"10.0.0.0/8\" port=443");
    rule.port = Some("8000-8100".parse().unwrap());
    rule.protocol = Some(crate::Protocol::Udp);
    let edited = add_rule("sandbox.kdl", b"image \"d\"", None, &rule).unwrap();
    assert_eq!(edited.rule, "deny \"10.0.0.0/8\" port=\"8000-8100\" protocol=\"udp\"");
}

/// The message and help of an edit that is refused.
fn refusal(text: &str, rule: &NewRule) -> (String, usize, String) {
    match add_rule("sandbox.kdl", text.as_bytes(), None, rule) {
        Err(EditError::Refused(fault)) => {
            (fault.to_string(), fault.line(), fault.help_text().unwrap_or_default().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_would_do_nothing_is_refused_at_the_line_that_forbids_it() {
    let text = "image \"d\"\nnetwork {\n    allow \"api.b.com\"\n    deny \"a.com\" \"**.c.com\"\n}\n";
    let refused = |action, host| refusal(text, &rule(action, host));
    assert_eq!(
        refused(Action::Allow, "x.c.com"),
        (
            "`allow \"x.c.com\"` would do nothing: a `deny` wins over every `allow`".into(),
            4,
            "remove deny \"**.c.com\"".into()
        )
    );
    assert_eq!(
        refused(Action::Allow, "*.b.com"),
        (
            "`allow \"*.b.com\"` would make this `allow` superfluous".into(),
            3,
            "write allow \"*.b.com\" in its place".into()
        )
    );
    assert_eq!(refused(Action::Deny, "**.com").1, 4);
    assert_eq!(refused(Action::Allow, "registries").2, "allow registries=#true");
}

#[test]
fn a_denial_takes_nothing_away_and_says_what_it_ends() {
    let text = "image \"d\"\nnetwork {\n    allow \"a.com\"\n}\nsecret \"T\" host=\"a.com\" bearer=#true\n";
    let edited = add_rule("sandbox.kdl", text.as_bytes(), None, &rule(Action::Deny, "a.com")).unwrap();
    assert!(edited.text.contains("    allow \"a.com\"\n    deny \"a.com\"\n}"), "{}", edited.text);
    let warnings: Vec<_> = edited.warnings.iter().map(|fault| (fault.code(), fault.line())).collect();
    assert_eq!(warnings, [("manifest::dead-rule", 3), ("manifest::dead-secret", 6)]);
}

#[test]
fn warnings_that_were_there_before_do_not_count() {
    let text = "image \"d\"\nnetwork {\n    allow \"a.com\"\n    deny \"a.com\"\n}\n";
    let edited = allow(text, "x.com").unwrap();
    assert!(edited.warnings.is_empty(), "{:?}", edited.warnings);
}

#[test]
fn a_file_with_faults_is_not_edited() {
    assert!(matches!(allow("imgae \"d\"\n", "x.com"), Err(EditError::Faulty(_))));
    let full = format!("image \"d\"\nnetwork {{\n{}}}\n", "    allow \"a.com\" port=1;\n".repeat(1_330));
    assert!(matches!(allow(&full, "x.com"), Err(EditError::Refused(_) | EditError::Faulty(_))));
}

/// Something between two nodes of a block: line ends, comments, removed nodes.
fn gap() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\n",
        "\n    ",
        "\r\n\t",
        "; ",
        ";",
        " // c\n",
        " /* c */;",
        " ;\n",
        "\n\n  /-deny \"r.com\"\n ",
        " \\\n ; ",
        " /-\"z.com\"\n",
        " /* a\n b */\n  ",
    ])
}

fn node() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "allow \"a.com\"",
        "allow b.com",
        "deny \"c.com\" port=22",
        "allow \"d.com\" \"e.com\" protocol=udp",
        "publish 80",
        "host-service 5432",
        "allow registries=#true",
    ])
}

prop_compose! {
    fn manifest()(
        before in prop::sample::select(vec!["image \"d\"\n", "\u{feff}image \"d\";", "// c\r\nimage \"d\"\r\n"]),
        open in prop::sample::select(vec!["network {", "network \"deny\" {\n", "network \"allow\" { ", "network \"deny\" {\r\n\t"]),
        nodes in prop::collection::vec((node(), gap()), 0..4),
        close in prop::sample::select(vec!["}", "\n}\n", " } // c", "}\n\nenv { A \"b\" }\n", "};docker #true\n"]),
    ) -> String {
        let inside: String = nodes.iter().map(|(node, gap)| format!("{node}{gap}")).collect();
        format!("{before}{open}{inside}{close}")
    }
}

/// The manifest as JSON, which has no places, without the rule about `x.com`.
fn without_the_rule(text: &str) -> serde_json::Value {
    let mut json = serde_json::to_value(&parse("sandbox.kdl", text.as_bytes()).unwrap().manifest).unwrap();
    if let Some(rules) = json["network"]["rules"].as_array_mut() {
        rules.retain(|rule| rule["targets"] != serde_json::json!(["x.com"]));
    }
    json
}

proptest! {
    /// Whatever a manifest looks like, an edit adds one rule to it and changes nothing else.
    #[test]
    fn an_edit_only_adds(text in manifest(), denies in any::<bool>()) {
        prop_assume!(parse("sandbox.kdl", text.as_bytes()).is_ok());
        let action = if denies { Action::Deny } else { Action::Allow };
        let edited = add_rule("sandbox.kdl", text.as_bytes(), None, &rule(action, "x.com"));
        let edited = edited.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        prop_assert_eq!(edited.change, Change::Rule);
        let added = edited.text.len() - text.len();
        let start = text.bytes().zip(edited.text.bytes()).take_while(|(old, new)| old == new).count();
        let only_adds = (0..=start).any(|at| text[..].as_bytes()[at..] == edited.text.as_bytes()[at + added..]);
        prop_assert!(only_adds, "{:?} became {:?}", text, edited.text);
        prop_assert_eq!(without_the_rule(&text), without_the_rule(&edited.text));
        let before = text.matches("x.com").count();
        prop_assert_eq!(edited.text.matches("x.com").count(), before + 1);
    }
}
