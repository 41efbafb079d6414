//! A sandbox's life: started, kept, found, stopped, reset, removed.

use sbx_tests::Environment;
use serde_json::Value;

fn list(env: &Environment) -> Vec<Value> {
    serde_json::from_str(&env.sbx(&["ls", "--json"]).text()).unwrap()
}

#[test]
fn a_detached_sandbox_stays_until_it_is_stopped() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let sandboxes = list(&env);
    assert_eq!(sandboxes.len(), 1);
    assert_eq!(sandboxes[0]["status"], "running");
    assert!(sandboxes[0]["engine"] == "qemu" || sandboxes[0]["engine"] == "kvm", "{sandboxes:?}");
    assert_eq!(sandboxes[0]["workspace"], env.repo().to_str().unwrap());

    let boot = env.exec("cat /proc/sys/kernel/random/boot_id").text();
    assert_eq!(env.exec("cat /proc/sys/kernel/random/boot_id").text(), boot, "the same machine answers");

    env.sbx(&["stop"]).success();
    assert_eq!(list(&env)[0]["status"], "stopped");
    env.sbx(&["stop"]).success();
    assert_ne!(env.exec("cat /proc/sys/kernel/random/boot_id").text(), boot, "exec starts it again");
}

#[test]
fn the_disk_is_kept_until_it_is_reset() {
    let env = Environment::new().with_busybox();
    env.up("sudo sh -c 'echo kept > /etc/kept'; mkdir -p ~/x && echo home > ~/x/y").success();
    assert_eq!(env.up("cat /etc/kept ~/x/y").text(), "kept\nhome");
    env.write("workspace-file", "stays");
    env.sbx(&["reset"]).success();
    env.up("test ! -e /etc/kept && test ! -e ~/x/y && cat workspace-file").success();
}

#[test]
fn a_disk_grows_when_the_manifest_grows() {
    let env = Environment::new().with_busybox();
    // The guest grows it while it is in use, so its size is looked at until it is large enough, or the time is up.
    let size = |env: &Environment, wanted: u64| -> u64 {
        let mebibytes = "df -m / | tail -n 1 | tr -s ' ' | sed 's/^ *//' | cut -d ' ' -f 2";
        let script = format!(
            "for i in $(seq 300); do size=$({mebibytes}); [ $size -ge {wanted} ] && break; sleep 0.1; done; echo $size"
        );
        env.up(&script).text().parse().unwrap()
    };
    let before = size(&env, 0);
    env.up("sudo sh -c 'echo kept > /etc/kept'").success();
    let grown = env.read("sandbox.kdl").replace("disk=\"1GiB\"", "disk=\"5GiB\"");
    env.write("sandbox.kdl", &grown);
    let after = size(&env, 4500);
    assert!(before < 1100 && after > 4500, "{before} MiB, then {after} MiB");
    assert_eq!(env.up("cat /etc/kept").text(), "kept");
}

#[test]
fn removal_leaves_nothing_but_the_workspace() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    env.sbx(&["rm"]).exits(2).stderr_has("sbx rm --force");
    env.sbx(&["rm", "--force"]).success();
    assert!(list(&env).is_empty());
    assert_eq!(std::fs::read_dir(env.home().join("sandboxes")).unwrap().count(), 0);
    assert!(env.repo().join("sandbox.kdl").exists());
    env.sbx(&["rm"]).exits(2).stderr_has("no sandbox");
    env.sbx(&["rm", "--force"]).success();
}

#[test]
fn two_starts_at_once_share_one_machine() {
    let env = Environment::new().with_busybox();
    let script = "cat /proc/sys/kernel/random/boot_id; sleep 1";
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| env.up(script).text());
        let second = scope.spawn(|| env.up(script).text());
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first, second);
}

#[test]
fn a_command_that_comes_during_the_boot_waits_for_it() {
    let env = Environment::new().with_busybox();
    let mut starter = env.command(&["up", "-d"]).spawn().unwrap();
    while !list(&env).iter().any(|sandbox| sandbox["status"] == "starting") {
        assert_eq!(starter.try_wait().unwrap(), None, "it is up before anybody saw it start");
    }
    assert_eq!(env.exec("echo here").text(), "here");
    assert!(starter.wait().unwrap().success());
}

#[test]
fn what_was_logged_can_be_read() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    env.exec("sudo sh -c 'echo written-to-the-console > /dev/console'").success();
    let mut command = env.command(&["logs", "--follow"]);
    command.stdout(std::process::Stdio::piped());
    let follower = command.spawn().unwrap();
    env.sbx(&["stop"]).success();
    let followed = follower.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&followed.stdout).contains("written-to-the-console"));
    assert!(env.sbx(&["logs"]).success().stdout().contains("written-to-the-console"));
}

#[test]
fn sandboxes_are_found_by_name_from_anywhere() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let name = list(&env)[0]["name"].as_str().unwrap().to_owned();
    let mut command = env.command(&["exec", "-n", &name, "--", "pwd"]);
    let output = command.current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), env.repo().to_str().unwrap());
    env.sbx(&["exec", "-n", "nobody-has-this", "--", "true"]).exits(2).stderr_has("sbx ls");
}

#[test]
fn doctor_tells_what_is_there() {
    let env = Environment::new();
    let report = env.sbx(&["doctor"]).stdout();
    for part in ["qemu", "kernel", "landlock"] {
        assert!(report.to_lowercase().contains(part), "no {part} in {report}");
    }
    // Programs are told in one word what KVM is.
    let kvm = env.kvm();
    assert!(["hardware", "emulated", "missing", "no-permission", "failed"].contains(&kvm.as_str()), "{kvm}");
    assert!(kvm == "missing" || std::path::Path::new("/dev/kvm").exists(), "{kvm}");
}

#[test]
fn a_clock_that_went_wrong_is_set_right() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    // What a guest's clock looks like after the host slept; within a minute the host looks after it.
    let script =
        "sudo date -s 2001-01-01 >/dev/null; until [ $(date +%Y) -gt 2001 ]; do sleep 1; done; date +%s";
    let inside: u64 = env.exec(script).text().parse().unwrap();
    let outside = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(inside.abs_diff(outside) < 30, "{inside} inside, {outside} outside");
}

#[test]
fn the_engine_can_be_named_in_the_environment() {
    let env = Environment::new().on_qemu().with_busybox();
    env.up("true").success();
    assert_eq!(list(&env)[0]["engine"], "qemu");
    let mut command = env.command(&["up", "--", "true"]);
    let output = command.env("SBX_ENGINE", "bochs").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("SBX_ENGINE is `bochs`; it can be `kvm`, `qemu`"), "{stderr}");
}
