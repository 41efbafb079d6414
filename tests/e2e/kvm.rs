//! The kvm engine with the guest that users have: Linux, the agent, an image, the workspace.
//!
//! On a KVM that emulates, a boot takes a minute; so these are few, and each does all that one boot can show.

use std::time::{Duration, Instant};

use sbx_tests::{Environment, ImageBuilder};
use serde_json::Value;

use crate::{isolation, network, robustness};

/// More than a guest's way to its power-off takes on an emulated KVM.
const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox on the kvm engine, as small as can be: on an emulated KVM each page of memory costs time at boot.
#[expect(clippy::print_stdout, reason = "that a test does not run has to be seen")]
fn on_kvm() -> Option<Environment> {
    let env = Environment::new().on_kvm();
    if env.is_none() {
        println!("skipped: no /dev/kvm that runs guests");
    }
    let env = env?;
    let image = env.image("busybox", ImageBuilder::busybox());
    Some(env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n"
    )))
}

/// Waits until the only sandbox has this status, and returns what `sbx ls` tells of it.
fn wait_until(env: &Environment, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list: Vec<Value> = serde_json::from_str(&env.sbx(&["ls", "--json"]).text()).unwrap();
        assert_eq!(list.len(), 1);
        let sandbox = list.into_iter().next().unwrap();
        if sandbox["status"] == status {
            return sandbox;
        }
        assert!(Instant::now() < deadline, "it is not {status}: {sandbox}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_command_runs_with_its_streams_and_exit_code_and_changes_the_workspace() {
    let Some(env) = on_kvm() else { return };
    // The network card, too, is the one that the other engine has.
    let lan = network::lan();
    let env = env.on_lan(&lan);
    let manifest = env.read("sandbox.kdl");
    env.write("sandbox.kdl", format!("{manifest}network {{ allow \"good.example\"; }}\n"));
    env.write("given", "by the host");
    let script = "cat given; echo to stderr >&2; echo by the guest > made; \
                  wget -q -O fetched http://good.example/by-name; wget -q -O - http://93.184.216.99/ && echo > open; \
                  grep -c GenuineIntel\\\\\\|AuthenticAMD /proc/cpuinfo > processors; sudo touch /etc/changed && exit 7";
    let outcome = env.sbx(&["up", "--yes", "--engine", "kvm", "--", "sh", "-c", script]).exits(7);
    assert_eq!(outcome.stdout(), "by the host");
    let outcome = outcome.stderr_has("to stderr");
    assert!(outcome.stderr.contains("kvm"), "it says on which engine it is: {outcome:?}");
    assert_eq!(env.read("made"), "by the guest\n");
    assert_eq!(env.read("processors"), "1\n");
    assert_eq!(env.read("fetched"), "GET good.example /by-name\n");
    assert!(!env.repo().join("open").exists(), "no rule allows that address");
    let sandbox = wait_until(&env, "stopped");
    assert_eq!((&sandbox["engine"], &sandbox["reason"]), (&"kvm".into(), &Value::Null), "{sandbox}");
}

#[test]
fn a_killed_sandbox_process_leaves_nothing_running_and_nothing_to_repair() {
    let Some(env) = on_kvm() else { return };
    isolation::up_and_check_the_first_word(&env, "kvm");
    env.exec("echo kept > kept; sudo sh -c 'echo disk > /etc/kept; sync'").success();
    let processes = robustness::processes(&env);
    assert_eq!(processes.len(), 1, "the sandbox process is the machine");
    robustness::kill(processes[0]);
    wait_until(&env, "died");
    assert!(robustness::processes(&env).is_empty(), "it is gone");
    // The other engine goes on with the same disk.
    let outcome = env.sbx(&["up", "--engine", "qemu", "--", "cat", "kept", "/etc/kept"]);
    assert_eq!(outcome.text(), "kept\ndisk");
}
