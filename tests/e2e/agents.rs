//! What `sbx up` starts: an agent with its arguments, its variables and what it may reach.

use std::fs;

use sbx_tests::{Environment, Outcome, terminal};

/// An environment whose manifest has these agents, or other nodes, in the place of the shell.
fn with_agents(nodes: &str) -> Environment {
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl").replace("agent \"shell\"\n", &format!("{nodes}\n"));
    env.manifest(&manifest)
}

/// Describes an agent of the user's.
fn user_agent(env: &Environment, name: &str, text: &str) {
    let directory = env.outside().join(".config/sbx/agents");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(format!("{name}.kdl")), text).unwrap();
}

/// Runs the program with a credential in its environment.
fn with_key(env: &Environment, arguments: &[&str]) -> Outcome {
    let mut command = env.command(arguments);
    command.env("ACME_API_KEY", "the-real-one");
    env.run(command, arguments)
}

#[test]
fn an_agent_is_started_with_its_arguments_and_its_variables() {
    let env = with_agents(
        r##"
        agent "acme" {
            command "sh" "-c" #"echo "$ACME $OTHER $0 $*""# "acme"
            env { ACME "agent"; OTHER "agent"; }
            args "--model" "opus"
        }
        agent "second" { command "echo" "second"; }
        env { OTHER "manifest"; }
        "##,
    );
    assert_eq!(env.sbx(&["up"]).text(), "agent manifest acme --model opus");
    assert_eq!(env.sbx(&["up", "--", "-p", "a b"]).text(), "agent manifest acme --model opus -p a b");
    assert_eq!(env.sbx(&["up", "--agent", "second", "--", "x"]).text(), "second x");
    // The shell is always there, and runs what it is given.
    assert_eq!(env.sbx(&["up", "--agent", "shell", "--", "echo", "hi"]).text(), "hi");
    env.sbx(&["up", "--agent", "nobody"]).exits(2).stderr_has("there is no agent `nobody`");
}

#[test]
fn arguments_of_the_shell_are_its_command() {
    let env = with_agents(r#"agent "shell" { args "echo" "from the manifest"; }"#);
    assert_eq!(env.sbx(&["up"]).text(), "from the manifest");
    assert_eq!(env.sbx(&["up", "--", "echo", "given"]).text(), "given");
}

#[test]
fn an_agent_that_the_manifest_does_not_name_asks_for_what_it_reaches() {
    let env = Environment::new().with_busybox();
    let text = r#"agent "acme" { command "echo" "acme"; allow "api.acme.example"; }"#;
    user_agent(&env, "acme", text);
    env.sbx(&["up", "--", "true"]).success();
    // A sandbox that is on its way down may still take the next command.
    env.sbx(&["stop"]).success();
    let refused = env.sbx(&["up", "--agent", "acme"]).exits(2);
    assert!(refused.stderr.contains("wants to\n  reach \"api.acme.example\" port=443\n"), "{refused:?}");
    assert_eq!(env.sbx(&["up", "--yes", "--agent", "acme"]).text(), "acme");
    assert_eq!(env.sbx(&["up", "--agent", "acme"]).text(), "acme", "a yes is remembered");

    // What comes later knows which agent the sandbox is for.
    env.sbx(&["stop"]).success();
    env.sbx(&["up", "-d", "--agent", "acme"]).success();
    env.sbx(&["stop"]).success();
    assert_eq!(env.exec("ls -d /sys/class/net/eth0").text(), "/sys/class/net/eth0", "it has a network still");
}

#[test]
fn what_an_agent_of_the_manifest_reaches_is_allowed_once_it_was_approved() {
    let env = with_agents(
        r#"
        agent "acme" {
            command "sh" "-c" "nslookup surely-not.acme.example >/dev/null 2>&1; true"
            allow "**.acme.example"
        }
        "#,
    );
    env.sbx(&["up"]).exits(2).stderr_has("reach \"**.acme.example\" port=443");
    let judged = env.sbx(&["policy", "check", "api.acme.example"]).success().stdout();
    assert!(judged.contains("agent \"acme\""), "{judged}");
    env.sbx(&["up", "--yes"]).success();
    let explained = env.sbx(&["check", "--explain"]).success().stdout();
    assert!(explained.contains("**.acme.example port 443"), "{explained}");
}

#[test]
fn agents_are_listed_and_shown_with_who_says_what_they_are() {
    let env = Environment::new();
    let listed = env.sbx(&["agent", "ls"]).success().stdout();
    for name in ["claude", "codex", "copilot", "gemini", "kiro", "opencode", "qwen", "shell"] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{name}: {listed}");
    }
    let shown = env.sbx(&["agent", "show", "claude"]).success().stdout();
    for part in [
        "said by   sbx",
        "npm @anthropic-ai/claude-code",
        "version   claude --version",
        "reaches   api.anthropic.com port 443",
        "~/.claude.json",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // A copy is all that it takes to change one.
    let text = env.sbx(&["agent", "show", "claude", "--kdl"]).success().stdout();
    user_agent(&env, "claude", &text.replace("api.anthropic.com", "gateway.example.com"));
    let shown = env.sbx(&["agent", "show", "claude", "--json"]).text();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["origin"], "user");
    assert!(shown["file"].as_str().unwrap().ends_with("agents/claude.kdl"), "{shown}");
    assert_eq!(shown["hosts"][0], "gateway.example.com");

    user_agent(&env, "acme", "agent \"acme\" { comand \"acme\"; }");
    let listed = env.sbx(&["agent", "ls", "--json"]).exits(1).stderr_has("comand");
    assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&listed.stdout()).unwrap().len(), 8);
    env.sbx(&["agent", "show", "acme"]).exits(2).stderr_has("acme.kdl:1");
    env.sbx(&["agent", "show", "nobody"]).exits(2).stderr_has("claude, codex");
}

#[test]
fn a_credential_is_a_placeholder_inside_and_nothing_if_the_host_has_none() {
    let env = with_agents(
        r#"
        agent "acme" {
            command "sh" "-c" "env | grep ACME_API_KEY || echo none"
            secret "ACME_API_KEY" host="api.acme.example" header="x-api-key"
        }
        "#,
    );
    assert_eq!(env.sbx(&["up"]).text(), "none");
    env.sbx(&["stop"]).success();
    let inside = with_key(&env, &["up"]).text();
    assert_eq!(inside, "ACME_API_KEY=sbx-placeholder-ACME_API_KEY");
    // Nor does it lie anywhere in the sandbox's directory.
    for entry in fs::read_dir(env.sandbox()).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let bytes = fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"the-real-one"), "{}", entry.path().display());
    }
}

#[test]
fn an_agent_has_the_terminal() {
    let env = with_agents(
        r#"agent "acme" { command "sh" "-c" "tty; echo $TERM/$COLORTERM; read line; echo got $line"; }"#,
    );
    let mut command = env.command(&["up"]);
    command.env("TERM", "screen-256color").env("COLORTERM", "truecolor");
    let mut session = terminal::open(command);
    terminal::wait_for(&mut session, "/dev/pts/");
    terminal::wait_for(&mut session, "screen-256color/truecolor");
    expectrl::Expect::send(&mut session, "typed\n").unwrap();
    terminal::wait_for(&mut session, "got typed");
}
