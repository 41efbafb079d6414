//! Every file of ours is right, and a user's goes before it.

use super::*;
use crate::{
    Fault,
    model::{Archive, Install, InstallFrom},
    parse_with,
};

/// What the agent `name` is.
fn ours(name: &str) -> Definition {
    Catalogue::default().get(name).unwrap().unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn faults_of(text: &str) -> Vec<(String, Option<String>)> {
    let mut catalogue = Catalogue::default();
    catalogue.add("acme", "acme.kdl", text.as_bytes().to_vec());
    let shown = |fault: &Fault| (fault.message().to_owned(), fault.help_text().map(str::to_owned));
    match catalogue.get("acme").unwrap() {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(shown).collect(),
    }
}

#[test]
fn every_agent_of_ours_says_what_it_takes() {
    for (name, text) in OURS {
        let read = read(name, text.as_bytes(), |document, source| {
            decode::definition(document, source, name, DefinitionOrigin::Sbx)
        });
        let (definition, warnings) = read.unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        assert!(warnings.is_empty(), "{name}: {warnings:#?}");
        assert_eq!(definition.name, name);
        if definition.is_shell() {
            assert_eq!(name, "shell");
            continue;
        }
        assert!(definition.install.is_some(), "{name}");
        assert!(!definition.version_command.is_empty() && !definition.hosts.is_empty(), "{name}");
        assert!(!definition.config.is_empty() && definition.title != name, "{name}");
        for file in &definition.files {
            let inside = |known: &crate::Spanned<String>| {
                file.path.value == known.value || file.path.value.starts_with(&format!("{}/", known.value))
            };
            assert!(definition.config.iter().any(inside), "{name}: {}", file.path.value);
            if file.path.value.ends_with(".json") {
                let content = file.content_for("/srv/a \"b\"\\");
                serde_json::from_str::<serde_json::Value>(&content)
                    .unwrap_or_else(|error| panic!("{name}: {error}: {content}"));
            }
        }
    }
    let mut names: Vec<_> = OURS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, Catalogue::default().names());
    names.dedup();
    assert_eq!(names.len(), OURS.len());
}

#[test]
fn a_vendor_has_a_file_for_each_platform() {
    let Some(Install { from: InstallFrom::Download(download), .. }) = ours("kiro").install else {
        panic!("kiro is downloaded")
    };
    assert_eq!(download.archive, Archive::TarGz);
    let name = |musl| {
        let url = download.location("2.13.0", "x86_64", musl);
        url.rsplit_once("amazonaws.com").map(|(_, path)| path.to_owned()).unwrap()
    };
    assert_eq!(name(false), "/2.13.0/kirocli-x86_64-linux.tar.gz");
    assert_eq!(name(true), "/2.13.0/kirocli-x86_64-linux-musl.tar.gz");
}

#[test]
fn the_users_agents_go_before_ours() {
    let mut catalogue = Catalogue::default();
    catalogue.add("claude", "claude.kdl", b"agent \"claude\" { command \"mine\"; }".to_vec());
    catalogue.add(
        "acme",
        "acme.kdl",
        b"agent \"acme\" { command \"acme\"; allow \"acme.example\"; }".to_vec(),
    );
    assert!(catalogue.names().contains(&"acme"));
    let text = b"image \"debian\"\nagent \"claude\"\nagent \"acme\" { args \"-x\"; }\n";
    let manifest = parse_with("sandbox.kdl", text, &catalogue).unwrap().manifest;
    let [claude, acme] = manifest.settings.agents.as_slice() else { panic!("two agents") };
    assert_eq!(claude.command(&[]), [b"mine"]);
    assert_eq!(claude.definition.origin, DefinitionOrigin::User);
    assert_eq!(acme.command(&[b"y".to_vec()]), [&b"acme"[..], b"-x", b"y"]);
    let hosts: Vec<_> = manifest.implied_hosts().iter().map(|host| host.what.to_string()).collect();
    assert_eq!(hosts, ["acme.example"]);
    // What somebody else describes is not described again.
    let faults =
        parse_with("sandbox.kdl", b"image \"debian\"\nagent \"acme\" { env { A \"b\"; }; }", &catalogue);
    assert_eq!(faults.unwrap_err().iter().next().unwrap().message(), "sbx knows the `env` of `acme`");
}

#[test]
fn a_broken_file_is_reported_where_it_is_broken() {
    let mut catalogue = Catalogue::default();
    catalogue.add("acme", "~/agents/acme.kdl", b"agent \"acme\" {\n    comand \"acme\"\n}\n".to_vec());
    let faults = parse_with("sandbox.kdl", b"agent \"acme\"\nimage \"debian\"", &catalogue).unwrap_err();
    let shown: Vec<_> = faults
        .iter()
        .map(|fault| serde_json::to_value(fault).unwrap())
        .map(|fault| (fault["file"].clone(), fault["line"].clone(), fault["message"].clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("sandbox.kdl".into(), 1.into(), "what `acme` is cannot be read".into()),
            ("~/agents/acme.kdl".into(), 2.into(), "there is no `comand` in `agent`".into()),
        ]
    );
}

#[test]
fn the_shell_runs_what_it_is_given() {
    let command = |text: &str, more: &[Vec<u8>]| {
        let text = format!("image \"debian\"\n{text}\n");
        let manifest = crate::parse("sandbox.kdl", text.as_bytes()).unwrap().manifest;
        manifest.settings.agents.first().unwrap().command(more)
    };
    assert!(command("agent \"shell\"", &[]).is_empty());
    assert_eq!(command("agent \"shell\" { args \"make\" \"all\"; }", &[]), [&b"make"[..], b"all"]);
    assert_eq!(command("agent \"shell\" { args \"make\"; }", &[b"ls".to_vec()]), [b"ls"]);
    assert_eq!(
        command("agent \"claude\" { args \"--model\" \"opus\"; }", &[b"-p".to_vec()]),
        [&b"claude"[..], b"--dangerously-skip-permissions", b"--model", b"opus", b"-p"]
    );
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_what_is_right() {
    let program = r#"program "acme" path="bin/acme""#;
    let download =
        |url: &str| format!("agent \"acme\" {{ command \"acme\"; install url=\"{url}\" {{ {program}; }}; }}");
    assert!(faults_of(&download("https://acme.example/{version}/acme-{architecture}{musl}")).is_empty());
    let cases: [(String, &str, Option<&str>); 13] = [
        (String::new(), "this file describes no agent", Some("agent \"acme\" { command \"acme\"; }")),
        ("agent \"other\"".to_owned(), "this file describes the agent `acme`", Some("agent \"acme\"")),
        (
            "agent \"acme\"; agent \"acme\"".to_owned(),
            "`agent` is given twice",
            Some("keep one `agent`; a profile can replace it"),
        ),
        ("agent \"acme\" { args \"x\"; }".to_owned(), "there is no `args` in `agent`", None),
        ("agent \"acme\" version=\"2\"".to_owned(), "`agent` has no property `version`", None),
        (
            "agent \"acme\" { install npm=\"acme\"; }".to_owned(),
            "nothing says how this agent is started",
            Some("command \"acme\""),
        ),
        (
            "agent \"acme\" { node \"22\"; }".to_owned(),
            "`22` is not a lower bound of Node.js",
            Some("node \">=22\""),
        ),
        ("agent \"acme\" { file \"../x\" content=\"\"; }".to_owned(), "`../x` is not a path inside", None),
        (
            "agent \"acme\" { config \"/etc\"; }".to_owned(),
            "`/etc` is not a path inside",
            Some("config \"etc\""),
        ),
        (download("https://acme.example/latest"), "the URL is the same for every version", None),
        (download("https://acme.example/{version}/{os}"), "`{os}` stands for nothing", None),
        (download("ftp://acme.example/{version}"), "`ftp://acme.example/{version}` is not a URL", None),
        (
            download("https://user@acme.example/{version}"),
            "`https://user@acme.example/{version}` is not a URL",
            None,
        ),
    ];
    for (text, message, help) in cases {
        let faults = faults_of(&text);
        let [(found, advice)] = faults.as_slice() else { panic!("{text}: {faults:#?}") };
        assert_eq!(found, message, "{text}");
        if help.is_some() {
            assert_eq!(advice.as_deref(), help, "{text}");
        }
    }
}
