//! Every kind of fault: what is wrong, and what to write instead.

use crate::{Fault, Severity, parse};

/// A line of a manifest; whether it can still be used; and the message and help of each fault.
type Case = (&'static str, &'static [(char, &'static str, &'static str)]);

const CASES: &[Case] = &[
    (r#"sandbox "Payments""#, &[('E', "`Payments` cannot be a name", r#"sandbox "payments""#)]),
    ("sandbox", &[('E', "`sandbox` needs an argument", r#"sandbox "payments""#)]),
    (r#"sandbox "a" "b""#, &[('E', "`sandbox` has one argument", r#"sandbox "payments""#)]),
    ("sandbox 5", &[('E', "this must be a string", r#""5""#)]),
    (r#"sandbox "a" { b; }"#, &[('E', "`sandbox` has no braces", r#"sandbox "payments""#)]),
    (r#"sandbox (t)"a""#, &[('E', "type annotations mean nothing here", "")]),
    (
        r#"sandbox "a";sandbox "b""#,
        &[('E', "`sandbox` is given twice", "keep one `sandbox`; a profile can replace it")],
    ),
    (r#"share "ghcr.io/acme/sandboxes""#, &[]),
    (
        r#"share "ghcr.io/acme/sandboxes:main""#,
        &[('E', "`ghcr.io/acme/sandboxes:main` is not a repository", r#"share "ghcr.io/acme/sandboxes""#)],
    ),
    (
        r#"share "oci-layout:x""#,
        &[('E', "`oci-layout:x` is not a repository", r#"for example: share "ghcr.io/acme/sandboxes""#)],
    ),
    (r#"imag "debian""#, &[('E', "there is no `imag`", r#"image "debian""#)]),
    (r#"packges { apt "git"; }"#, &[('E', "there is no `packges`", "packages")]),
    (
        r#"allow "api.github.com""#,
        &[('E', "there is no `allow`", r#"network "deny" { allow "api.github.com"; }"#)],
    ),
    (r#"apt "git""#, &[('E', "there is no `apt`", r#"packages { apt "git"; }"#)]),
    (
        "nonsense 1",
        &[(
            'E',
            "there is no `nonsense`",
            "known here: `sandbox`, `agent`, `image`, `packages`, `setup`, `start`, `resources`, `workspace`, `mount`, `network`, `secret`, `env`, `docker`, `mcp`, `share` and `profile`",
        )],
    ),
    (r#"agent "claud""#, &[('E', "sbx knows no agent `claud`", r#"agent "claude""#)]),
    (r#"agent "claude-code""#, &[('E', "sbx knows no agent `claude-code`", r#"agent "claude""#)]),
    (
        r#"agent "acme""#,
        &[(
            'E',
            "sbx knows no agent `acme`",
            r#"known are claude, codex, copilot, gemini, kiro, opencode, qwen, shell; describe another one: agent "acme" { install npm="acme"; command "acme"; }"#,
        )],
    ),
    (r#"agent "acme" { install npm="@acme/agent"; command "acme" "--auto"; }"#, &[]),
    (
        r#"agent "claude" { command "x"; }"#,
        &[(
            'E',
            "sbx knows how to start `claude`",
            r#"remove it, or give the agent a name of your own: agent "my-agent" { … }"#,
        )],
    ),
    (
        r#"agent "acme" { install; command "x"; }"#,
        &[('E', "`install` needs a package", r#"install npm="@acme/agent""#)],
    ),
    (
        r#"agent "acme" { install npm="a" pip="b"; command "x"; }"#,
        &[('E', "an agent is installed by one package manager", "keep one of them")],
    ),
    (r#"agent "claude" version=2"#, &[('E', "this must be a string", r#""2""#)]),
    (
        r#"agent "claude" model="opus""#,
        &[('E', "`agent` has no property `model`", r#"it has `version`: agent "claude""#)],
    ),
    ("agent", &[('E', "`agent` needs an argument", r#"agent "claude""#)]),
    (r#"image "Debian:12""#, &[('E', "`Debian:12` is not an image", r#"image "debian:12""#)]),
    (r#"image "docker://debian:12""#, &[('E', "an image is not a URL", r#"image "debian:12""#)]),
    (
        r#"image "debian" platform="amd64""#,
        &[('E', "`amd64` is not a platform", r#"platform="linux/amd64""#)],
    ),
    (
        r#"image "debian" platfrom="linux/amd64""#,
        &[('E', "`image` has no property `platfrom`", r#"platform="linux/amd64""#)],
    ),
    (r#"packages "git""#, &[('E', "`packages` has no arguments", r#"packages { apt "git"; }"#)]),
    (
        r#"packages { apt "git ripgrep"; }"#,
        &[('E', "`git ripgrep` cannot be a package", r#""git" "ripgrep""#)],
    ),
    (r#"packages { apt "-y"; }"#, &[('E', "`-y` cannot be a package", "")]),
    (r#"packages { apt "git" "git"; }"#, &[('W', "`git` is listed twice", "remove one of them")]),
    ("packages { apt; }", &[('E', "`apt` needs an argument", r#"apt "git" "ripgrep""#)]),
    (
        r#"packages { brew "x"; }"#,
        &[(
            'E',
            "there is no `brew` in `packages`",
            "known here: `apt`, `apk`, `dnf`, `npm`, `pip` and `cargo`",
        )],
    ),
    (
        r#"packages { zypper "git"; }"#,
        &[(
            'E',
            "sbx cannot pin packages of `zypper`",
            "install them with setup \"sudo zypper --non-interactive install git\"",
        )],
    ),
    (
        r#"packages { npm "typescript=5"; }"#,
        &[('E', "`typescript=5` cannot be a package", r#"npm "typescript@5""#)],
    ),
    (
        r#"packages { pip "git+https://a/b"; }"#,
        &[(
            'E',
            "`git+https://a/b` cannot be a package",
            r#"for example "ruff" or "uvicorn[standard]>=0.30,<1""#,
        )],
    ),
    (r#"setup "npm ci" inputs="""#, &[('E', "a path is empty", r#"inputs=".""#)]),
    (
        r#"setup "npm ci" inputs="/etc/passwd""#,
        &[('E', "`/etc/passwd` is not in the workspace", "write it relative to the manifest")],
    ),
    (
        r#"setup "npm ci" { inputs "a" "../b" "a/"; }"#,
        &[
            ('E', "`../b` is not in the workspace", "setup sees the files of the workspace, and no others"),
            ('W', "the input `a` is given twice", "remove one of them"),
        ],
    ),
    (r#"setup "npm ci" { input "a"; }"#, &[('E', "there is no `input` in `setup`", r#"inputs "a""#)]),
    (
        r#"setup "npm ci" timeout="10 minutes""#,
        &[('E', "`10 minutes` is not a duration", r#"timeout="10m""#)],
    ),
    (r#"setup """#, &[('E', "a string is empty", "")]),
    ("start 5", &[('E', "this must be a string", r#""5""#)]),
    ("resources cpu=4", &[('E', "`resources` has no property `cpu`", "cpus=4")]),
    ("resources cpus=0", &[('E', "a machine cannot have 0 CPUs", "cpus=4")]),
    (r#"resources cpus="4""#, &[('E', "this must be a whole number", "cpus=4")]),
    (
        "resources cpus=1.5",
        &[('E', "this must be a whole number", "write cpus= and a number without quotes")],
    ),
    (r#"resources memory="8GB""#, &[('E', "`8GB` is not a size", r#"memory="8GiB""#)]),
    ("resources memory=8", &[('E', "`memory` needs a unit", r#"memory="8GiB""#)]),
    (
        "resources memory=8GiB",
        &[
            ('E', "`` is not a size", r#"a size is a whole number and a unit, for example "8GiB""#),
            ('E', "`8GiB` is not a number", r#""8GiB""#),
        ],
    ),
    (r#"resources memory="1MiB""#, &[('E', "`memory` cannot be 1MiB", r#"memory="64MiB""#)]),
    (r#"resources memory="100000KiB""#, &[('E', "`memory` cannot be 100000KiB", r#"memory="98MiB""#)]),
    (r#"resources disk="99999999GiB""#, &[('E', "`disk` cannot be 99999999GiB", r#"disk="16384GiB""#)]),
    ("resources cpus=4 cpus=5", &[('E', "`cpus` is given twice", "keep one of them")]),
    ("resources cpus 4", &[('E', "`resources` has no arguments", "properties are written with `=`: cpus=…")]),
    ("resources", &[('W', "`resources` says nothing", r#"resources cpus=4 memory="8GiB" disk="40GiB""#)]),
    (
        r#"workspace ".." "#,
        &[(
            'E',
            "the workspace `..` is not in the repository",
            r#"workspace ".", and beside it: mount "..""#,
        )],
    ),
    (r#"workspace "." mode="copy""#, &[('E', "`copy` is not a mode", r#"mode="direct""#)]),
    (
        r#"mount "~/x" readonly=true"#,
        &[
            ('E', "this must be #true or #false", "readonly=#true"),
            ('E', "`true` is written with a `#`", "#true"),
        ],
    ),
    (r#"mount "~/x" readonly="true""#, &[('E', "this must be #true or #false", "readonly=#true")]),
    (r#"mount "~/x" ro=#true"#, &[('E', "`mount` has no property `ro`", "readonly=#true")]),
    (r#"mount "/""#, &[('E', "the whole host cannot be mounted", "mount the directory that is needed")]),
    (r#"mount "~/x" at="src""#, &[('E', "`src` is not an absolute path", r#"at="/src""#)]),
    (r#"mount "~/x" at="/""#, &[('E', "nothing can be mounted over the root directory", "")]),
    (r#"mount "~/x" at="/proc/1""#, &[('E', "nothing can be mounted at `/proc/1`", "")]),
    (r#"mount "a" at="/s"; mount "b" at="/s/""#, &[('E', "two mounts are at `/s`", r#"at="/s-2""#)]),
    (
        r#"mount "a" at="/s"; mount "b" at="/s/x""#,
        &[('W', "`/s/x` is inside another mount", r#"mount it beside the other, with at="…""#)],
    ),
    ("mount ../lib", &[('E', "`../lib` needs quotes", r#""../lib""#)]),
    (
        r#"mount "$HOME/x""#,
        &[(
            'E',
            "variables are not replaced in `$HOME/x`",
            "use a path relative to the manifest, or one that begins with ~/",
        )],
    ),
    (r#"network "off""#, &[('E', "`off` is not what happens without a rule", r#"network "deny""#)]),
    (
        "network { allow; }",
        &[('E', "`allow` names no host", r#"allow "api.github.com", or allow registries=#true"#)],
    ),
    (
        r#"network { allow "https://api.github.com"; }"#,
        &[('E', "`allow` takes a host, not a URL", r#"allow "api.github.com" port=443"#)],
    ),
    (
        r#"network { allow "db.internal:5432"; }"#,
        &[('E', "`db.internal:5432` has a port in it", r#"allow "db.internal" port=5432"#)],
    ),
    (
        r#"network { allow "*"; }"#,
        &[(
            'E',
            "`*` alone matches every host",
            r#"what happens without a rule is the argument of network: network "allow""#,
        )],
    ),
    (r#"network { allow "api.*.com"; }"#, &[('E', "`api.*.com` matches no host", "")]),
    (
        r#"network { allow "10.1.2.3/8"; }"#,
        &[('E', "`10.1.2.3/8` has bits set after the first 8", r#"allow "10.0.0.0/8""#)],
    ),
    (
        r#"network { allow "API.github.com"; }"#,
        &[('W', "`API.github.com` is not how host names are written", r#"allow "api.github.com""#)],
    ),
    (r#"network { allow "registries"; }"#, &[('W', "`registries` is a property", "allow registries=#true")]),
    (r#"network { allow registries="yes"; }"#, &[('E', "this must be #true or #false", "registries=#true")]),
    (r#"network { allow "a.com" port=0; }"#, &[('E', "there is no port 0", "")]),
    (r#"network { allow "a.com" port=70000; }"#, &[('E', "there is no port 70000", "")]),
    (r#"network { allow "a.com" port="9-8"; }"#, &[('E', "the range `9-8` is empty", r#"port="8-9""#)]),
    (
        r#"network { allow "a.com" port=#true; }"#,
        &[('E', "this must be a whole number", "write port= and a number without quotes")],
    ),
    (
        r#"network { allow "a.com" protocol="icmp"; }"#,
        &[('E', "`icmp` is not a protocol", r#"protocol="tcp""#)],
    ),
    (
        r#"network { allow "a.com"; allow "a.com" port=443; }"#,
        &[('W', "this `allow` says nothing new", "remove it")],
    ),
    (
        r#"network { allow "x.a.com"; deny "**.a.com"; }"#,
        &[('W', "this `allow` does nothing", "remove one of them")],
    ),
    (
        r#"network { deny "a.com" registries=#true; }"#,
        &[(
            'E',
            "`deny` has no property `registries`",
            r#"it has `port` and `protocol`: deny "gist.github.com""#,
        )],
    ),
    (
        "network { publish 3000; publish 4000 as=3000; }",
        &[('E', "port 3000 of the host is published twice", "publish 4000 as=3001")],
    ),
    ("network { publish 3000 as=0; publish 4000 as=0; }", &[]),
    ("network { publish 0 as=0; }", &[('E', "there is no port 0", "")]),
    (r#"network { publish "8080:80"; }"#, &[('E', "the two ports are written apart", "publish 80 as=8080")]),
    (r#"network { publish "3000"; }"#, &[('E', "this must be a whole number", "publish 3000")]),
    (
        "network { host-service 5432; host-service 5432; }",
        &[('W', "this host-service is given twice", "remove one of them")],
    ),
    ("network { ports 3000; }", &[('E', "there is no `ports` in `network`", "publish 3000")]),
    (
        r#"network { secret "A"; }"#,
        &[(
            'E',
            "there is no `secret` in `network`",
            "`secret` stands at the top of the file, outside of all braces",
        )],
    ),
    (
        r#"secret "GH-TOKEN" host="api.github.com" bearer=#true"#,
        &[('E', "`GH-TOKEN` cannot be an environment variable", r#"secret "GH_TOKEN""#)],
    ),
    (
        r#"secret "GH_TOKEN" bearer=#true"#,
        &[(
            'E',
            "a secret needs the host that gets it",
            r#"secret "GH_TOKEN" bearer=#true host="api.example.com""#,
        )],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com""#,
        &[(
            'E',
            "a secret needs a place in the request",
            r#"secret "GH_TOKEN" host="api.github.com" bearer=#true"#,
        )],
    ),
    (
        r#"secret "GH_TOKEN" host="*.github.com" bearer=#true"#,
        &[(
            'E',
            "a secret goes to one host, known by its name",
            r#"write one `secret` for each host: host="api.example.com""#,
        )],
    ),
    (
        r#"secret "GH_TOKEN" host="https://api.github.com" bearer=#true"#,
        &[('E', "`host` takes the name of a host", r#"host="api.github.com""#)],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com" bearer=#true header="x-api-key""#,
        &[('E', "a secret goes into one place", "keep one of them")],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com" header="x-api-key:""#,
        &[('E', "`x-api-key:` cannot be an HTTP header", r#"header="x-api-key""#)],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com" bearer=#true from="GH_TOKEN""#,
        &[('E', "`GH_TOKEN` is no source of a secret", r#"from="env:GH_TOKEN""#)],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com" bearer=#true from="cmd:gh auth token""#,
        &[('E', "`cmd:` is no source of a secret", r#"from="command:gh auth token""#)],
    ),
    (
        r#"secret "GH_TOKEN" host="api.github.com" bearer=#true from="file:token.txt""#,
        &[(
            'W',
            "this secret is in the repository, where the sandbox can read it",
            r#"from="file:~/.config/…""#,
        )],
    ),
    (
        r#"secret "A" host="a.com" bearer=#true; network { allow "b.com"; }"#,
        &[('W', "`a.com` cannot be reached, so nothing gets this secret", r#"allow "a.com" port=443"#)],
    ),
    (
        r#"secret "A" host="a.com" bearer=#true; env { A "x"; }"#,
        &[('E', "`A` is a secret and a variable", "remove the variable")],
    ),
    ("env { A; }", &[('E', "`A` has no value", r#"A """#)]),
    ("env { A 5; }", &[('E', "this must be a string", r#""5""#)]),
    (r#"env { A-B "x"; }"#, &[('E', "`A-B` cannot be an environment variable", r#"A_B "x""#)]),
    (r#"env { A "x"; A "y"; }"#, &[('E', "the variable `A` is given twice", "remove one of them")]),
    (r#"env { A "x" "y"; }"#, &[('E', "`A` has one value", "put the value into quotes if it has spaces")]),
    (r#"env A="x""#, &[('E', "`env` has no property `A`", r#"env { A "x"; }"#)]),
    (r#"docker "yes""#, &[('E', "this must be #true or #false", "docker #true")]),
    ("docker true", &[('E', "`true` is written with a `#`", "#true")]),
    (r#"mcp "github""#, &[('E', "an MCP server needs a command", r#"mcp "github" command="github-mcp""#)]),
    (
        r#"mcp "github" comand="x""#,
        &[
            ('E', "an MCP server needs a command", r#"mcp "github" command="github-mcp""#),
            ('E', "`mcp` has no property `comand`", r#"command="x""#),
        ],
    ),
    (
        r#"profile "ci" { agent "shell"; profile "x" {}; }"#,
        &[(
            'E',
            "there is no `profile` in `profile`",
            "`profile` stands at the top of the file, outside of all braces",
        )],
    ),
    (
        r#"profile "ci" { sandbox "x"; }"#,
        &[(
            'E',
            "there is no `sandbox` in `profile`",
            "`sandbox` stands at the top of the file, outside of all braces",
        )],
    ),
    (
        r#"profile "ci" { agent "shell"; }; profile "ci" { agent "codex"; }"#,
        &[('E', "there are two profiles `ci`", "give one of them another name")],
    ),
    (r#"profile "ci""#, &[('W', "the profile `ci` changes nothing", r#"profile "ci" { agent "shell"; }"#)]),
    (
        r#"agent "shell"#,
        &[(
            'E',
            "this string does not end on its line",
            r#"a string over several lines begins and ends with `"""`"#,
        )],
    ),
    ("a { b", &[('E', "this `{` is not closed", "add a `}`")]),
    ("a } b", &[('E', "this `}` closes nothing", "remove it")]),
    ("/- ", &[('E', "the manifest names no image", r#"image "docker.io/library/debian:bookworm-slim""#)]),
    (
        r#"a "\q""#,
        &[('E', "there is no such escape", r##"write `\\` for a backslash, or a raw string: #"…"#"##)],
    ),
    (r#"agent "shell" }"#, &[('E', "this `}` closes nothing", "remove it")]),
    ("a/b", &[('E', "`a/b` needs quotes", r#""a/b""#)]),
    ("(t", &[('E', "parentheses are not for this", "text with parentheses needs quotes")]),
    ("=", &[('E', "a node must begin with its name", "put it into quotes")]),
    ("agent /* x", &[('E', "this comment does not end", "each `/*` needs a `*/`")]),
    ("allow=1 x", &[('E', "nothing is before this `=`", "")]),
    ("docker #maybe", &[('E', "there is no `#maybe`", "#true")]),
];

fn faults(text: &str) -> Vec<Fault> {
    match parse("sandbox.kdl", text.as_bytes()) {
        Ok(parsed) => parsed.warnings,
        Err(faults) => faults.iter().cloned().collect(),
    }
}

#[test]
fn each_fault_says_what_to_write_instead() {
    for (line, expected) in CASES {
        let image = if line.starts_with("imag") { "" } else { "image \"debian\"\n" };
        let found = faults(&format!("{line}\n{image}"));
        let found: Vec<_> = found
            .iter()
            .map(|fault| {
                let severity = if fault.severity() == Severity::Error { 'E' } else { 'W' };
                (severity, fault.to_string(), fault.help_text().unwrap_or_default().to_owned())
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(severity, message, help)| (*severity, (*message).to_owned(), (*help).to_owned()))
            .collect();
        assert_eq!(found, expected, "{line}");
    }
}

/// What `sbx check --json` prints is an interface.
#[test]
fn faults_as_json_have_stable_keys() {
    let text = "image \"debian\"\nenv { Ä \"x\"; }\nresources cpu=4\n";
    let faults = parse("sandbox.kdl", text.as_bytes()).unwrap_err();
    assert_eq!(
        serde_json::to_value(&faults).unwrap(),
        serde_json::json!([
            {
                "severity": "error", "code": "manifest::env", "message": "`Ä` cannot be an environment variable",
                "file": "sandbox.kdl", "line": 2, "column": 7, "offset": 21, "length": 2,
                "label": "only letters, digits and `_`, and no digit first", "help": "_ \"x\"",
            },
            {
                "severity": "error", "code": "manifest::unknown-property", "message": "`resources` has no property `cpu`",
                "file": "sandbox.kdl", "line": 3, "column": 11, "offset": 41, "length": 3,
                "label": "not known", "help": "cpus=4",
            },
        ])
    );
}

#[test]
fn a_profile_replaces_what_it_names() {
    let text = r#"
        image "debian"
        agent "claude"
        resources cpus=8 memory="16GiB"
        env { A "1"; B "2"; }
        mount "a"
        network { allow "a.com"; }
        profile "ci" { agent "shell"; resources cpus=2; env { B "3"; C "4"; }; mount "b"; network "deny" {}; }
    "#;
    let manifest = parse("sandbox.kdl", text.as_bytes()).unwrap().manifest;
    let ci = manifest.with_profile("ci").unwrap();
    assert_eq!(ci.settings.agents.first().unwrap().name.value, "shell");
    assert_eq!(ci.image.reference.value, "debian");
    assert_eq!(ci.settings.resources.cpus.as_ref().unwrap().value, 2);
    assert_eq!(ci.settings.resources.memory_bytes.as_ref().unwrap().value, 16 << 30);
    let pairs: Vec<_> = ci.environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(pairs, ["A=1", "B=3", "C=4"]);
    assert_eq!(ci.settings.mounts.iter().map(|mount| mount.path.value.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(ci.settings.network.unwrap().rules.is_empty());
    let fault = manifest.with_profile("cii").unwrap_err();
    assert_eq!((fault.line(), fault.help_text()), (8, Some("--profile ci")));
}
