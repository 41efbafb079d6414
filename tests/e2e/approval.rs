//! What a manifest opens is shown and asked for, and a yes is remembered for exactly that.

use sbx_tests::{Environment, terminal};

#[test]
fn what_the_sandbox_may_reach_is_approved_once_and_again_when_it_is_more() {
    let env = Environment::unprivileged().with_busybox();
    let manifest = env.read("sandbox.kdl");
    let network =
        |rules: &str| env.write("sandbox.kdl", format!("{manifest}network \"deny\" {{\n{rules}\n}}\n"));
    network("allow \"**.example.com\" port=443\ndeny \"bad.example.com\"\nhost-service 5432");

    // Nobody can be asked.
    let refused = env.up("true").exits(2).stderr_has("sbx up --yes");
    for line in ["reach \"**.example.com\" port=443", "reach port 5432 of this machine's localhost"] {
        assert!(refused.stderr.contains(line), "{refused:?}");
    }
    assert!(!refused.stderr.contains("bad.example.com"), "{refused:?}");
    let _ = env.sbx(&["up", "--yes", "--", "true"]).success();
    let again = env.up("true").success();
    assert!(!again.stderr.contains("reach"), "{again:?}");

    // Less is not asked for.
    network("allow \"**.example.com\" port=443\ndeny \"bad.example.com\" \"worse.example.com\"");
    let _ = env.up("true").success();
    // More is, and nothing besides.
    network("allow \"**.example.com\" port=443\ndeny \"bad.example.com\"\nallow \"10.0.0.0/8\"");
    let refused = env.up("true").exits(2).stderr_has("now also wants to\n  reach \"10.0.0.0/8\"\n");
    assert!(!refused.stderr.contains("**"), "{refused:?}");
    // A denial that is taken back opens something, too.
    network("allow \"**.example.com\" port=443");
    let _ = env.up("true").exits(2).stderr_has("reach \"bad.example.com\", which was denied before");
    network("allow \"**.example.com\" port=443\nallow \"bad.example.com\"");
    let _ = env.exec("true").exits(2).stderr_has("reach \"bad.example.com\"");
}

#[test]
fn trust_shows_everything_and_approves_without_starting_anything() {
    let env = Environment::new()
        .with_network("deny", "allow \"api.example.com\" port=443\ndeny \"bad.example.com\"");
    let manifest = env.read("sandbox.kdl");
    // Nobody can be asked, and the way out is the command to run.
    let refused = env.sbx(&["trust"]).exits(2).stderr_has("`sbx trust --yes` approves it");
    assert!(
        refused.stderr.contains("sandbox.kdl wants to\n  reach \"api.example.com\" port=443\n"),
        "{refused:?}"
    );
    env.up("true").exits(2).stderr_has("`sbx trust --yes` approves it");
    env.sbx(&["trust", "--yes"]).success();
    assert!(!env.home().join("sandboxes").exists(), "nothing was started");
    let again = env.sbx(&["trust"]).success().stderr_has("wants nothing that was not approved");
    assert!(again.stderr.contains("was approved to\n  reach \"api.example.com\" port=443\n"), "{again:?}");
    assert!(again.stderr.contains("denies itself to\n  reach \"bad.example.com\"\n"), "{again:?}");
    env.up("true").success();

    // A profile wants something of its own, and the command to run says which.
    let profile = "profile \"wide\" { network \"allow\"; }\n";
    env.write("sandbox.kdl", format!("{manifest}{profile}"));
    let refused = env.sbx(&["trust", "--profile", "wide"]).exits(2);
    let refused = refused.stderr_has("`sbx trust --yes --profile wide` approves it");
    assert!(refused.stderr.contains("reach every host of the internet"), "{refused:?}");
    assert!(refused.stderr.contains("reach \"bad.example.com\", which was denied before"), "{refused:?}");
}

#[test]
fn what_the_making_of_the_machine_reaches_is_part_of_what_is_approved() {
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl");
    env.sbx(&["trust"]).success().stderr_has("wants nothing that was not approved");
    env.write(
        "sandbox.kdl",
        format!("{manifest}setup \"make\"\n").replace("agent \"shell\"", "agent \"kiro\""),
    );
    let refused = env.sbx(&["trust"]).exits(2);
    for line in [
        "reach the package registries that the image names while the machine is made",
        "reach \"desktop-release.q.us-east-1.amazonaws.com\" while the agent \"kiro\" is installed",
        "reach \"**.kiro.dev\" port=443",
    ] {
        assert!(refused.stderr.contains(line), "{line}: {refused:?}");
    }
    env.sbx(&["trust", "--yes"]).success();
    env.sbx(&["trust"]).success();
}

#[test]
fn a_person_is_asked_and_can_say_no() {
    let env = Environment::new().with_network("deny", "allow \"api.example.com\"");
    for (answer, code) in [("n\n", 2), ("y\n", 0)] {
        let mut session = terminal::open(env.command(&["trust"]));
        terminal::wait_for(&mut session, "Allow this?");
        expectrl::Expect::send(&mut session, answer).unwrap();
        let status = session.get_process().wait().unwrap();
        assert!(format!("{status:?}").contains(&code.to_string()), "{status:?}");
    }
    env.sbx(&["trust"]).success();
}
