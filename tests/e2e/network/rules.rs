//! Rules that change while the sandbox runs.

use super::{lan, sandbox};

#[test]
fn a_sandbox_that_runs_goes_by_new_rules_at_once() {
    let lan = lan();
    let env = sandbox(&lan, "allow \"good.example\"");
    env.sbx(&["up", "--yes", "-d"]).success();
    let fetch = "wget -q -O - http://evil.example/";
    let refused = env.exec(fetch).exits(1);
    assert!(refused.stderr.contains("refused evil.example: no rule allows this host"), "{refused:?}");
    assert!(refused.stderr.contains("to allow it: allow \"evil.example\""), "{refused:?}");

    // What the user writes is approved, and holds.
    env.sbx(&["allow", "evil.example"]).success().stderr_has("the sandbox that runs goes by it");
    assert_eq!(env.exec(fetch).success().text(), "GET evil.example /");
    env.sbx(&["policy", "check", "evil.example:80"]).success();

    // What is written by hand is asked about by whoever starts or uses it next with `sbx up`.
    let manifest = env.read("sandbox.kdl");
    env.write("sandbox.kdl", manifest.replace("\"good.example\"", "\"good.example\" \"more.example\""));
    env.up("true").exits(2).stderr_has("reach \"more.example\"");
    env.sbx(&["up", "--yes", "--", "true"]).success().stderr_has("follows sandbox.kdl as it is now");

    // A connection that is open ends when its rule goes.
    let mut open = env.command(&["exec", "--", "sh", "-c", "nc 93.184.216.99 80; echo ended"]);
    let open = open.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    env.exec("until netstat -tn | grep -q '93.184.216.99:80 .*ESTABLISHED'; do true; done").success();
    env.sbx(&["deny", "evil.example"]).success();
    let ended = open.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stdout).contains("ended"), "{ended:?}");
    env.exec(fetch).exits(1);
    env.sbx(&["policy", "check", "evil.example:80"]).exits(1);
    let log = env.sbx(&["policy", "log", "--refused"]).success().stdout();
    assert!(log.contains("deny \"evil.example\""), "{log}");
}
