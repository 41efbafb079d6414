//! What a manifest opens is shown and asked for, and a yes is remembered for exactly that.

use sbx_tests::Environment;

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
