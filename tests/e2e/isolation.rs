//! What a guest cannot do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use sbx_tests::Environment;

use crate::robustness;

/// More than a guest's way to its first word takes on an emulated KVM.
const FIRST_WORD: Duration = Duration::from_secs(60);

#[test]
fn there_is_no_network_without_a_rule() {
    let env = Environment::new().with_busybox();
    // Interfaces of the kernel's own may exist; a network card would have a device behind it.
    let outcome = env.up("ls -d /sys/class/net/*/device; cat /proc/net/route | wc -l").success();
    assert_eq!(outcome.stdout(), "1\n", "no card, and no route under the heading: {outcome:?}");
}

#[test]
fn the_sandbox_process_can_open_its_own_files_only() {
    let env = Environment::new().on_qemu().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let (process, engine) = processes(&env);
    for process in [process, engine] {
        let status = fs::read_to_string(process.join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    }
}

#[test]
fn every_thread_may_make_the_system_calls_of_its_kind_only() {
    for env in [Environment::new(), Environment::unprivileged()] {
        let env = env.on_qemu().with_busybox();
        env.sbx(&["up", "-d"]).success();
        env.exec("echo > file").success();
        let (process, engine) = processes(&env);
        let threads = filters(&process);
        let common = common_filters();
        assert!(threads.values().all(|filters| *filters > common), "{threads:?}");
        for name in [
            "qemu",
            "virtio-block",
            "virtio-fs",
            "virtio-vsock",
            "virtio-rng",
            "control",
            "guest",
            "clock",
            "console",
        ] {
            assert!(threads.contains_key(name), "{name}: {threads:?}");
        }
        // QEMU adds its own to ours.
        assert!(filters(&engine).values().all(|filters| *filters > common));
    }
}

#[test]
fn a_process_that_a_filter_ended_is_reported_as_such() {
    let env = Environment::new().on_qemu().with_busybox();
    let mut command = env.command(&["up", "--", "sh", "-c", "echo ready; sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = [0_u8; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    // What the kernel does to a thread that makes a call that it may not.
    send(&processes(&env).0, rustix::process::Signal::SYS);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("a system call that its filters forbid (SIGSYS)"), "{stderr}");
    let list = env.sbx(&["ls"]).success().stdout();
    assert!(list.contains("died") && list.contains("SIGSYS"), "{list}");
    let next = env.up("true").success();
    assert!(next.stderr.contains("had died") && next.stderr.contains("SIGSYS"), "{next:?}");
    // Nobody waits for the process of a sandbox that was left running.
    env.sbx(&["up", "-d"]).success();
    send(&processes(&env).0, rustix::process::Signal::SYS);
    wait_until_dead(&env);
    let list = env.sbx(&["ls"]).success().stdout();
    assert!(list.contains("died") && list.contains("was killed"), "{list}");
}

#[test]
fn filters_are_the_users_business_and_the_doctor_tells_what_is_enforced() {
    let env = Environment::new().with_busybox();
    let doctor = |value: &str| {
        let output = env.command(&["doctor", "--json"]).env("SBX_SECCOMP", value).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, findings) = doctor("");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&findings).unwrap();
    for name in ["landlock", "privileges", "seccomp"] {
        let finding = findings.iter().find(|finding| finding["name"] == name).unwrap();
        assert!(finding["text"].is_string(), "{finding}");
        assert!(name == "landlock" || finding["verdict"] == "good", "{finding}");
    }
    let (_, findings) = doctor("log");
    assert!(findings.contains("SBX_SECCOMP is set: system calls are logged, not limited"), "{findings}");
    assert_eq!(doctor("off").0, Some(2));
    let output = env.command(&["up", "--", "true"]).env("SBX_SECCOMP", "log").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.contains("SBX_SECCOMP=log"), "{stderr}");
}

#[test]
fn every_thread_has_its_filter_when_the_guest_says_its_first_word() {
    let env = Environment::new().on_qemu().with_busybox();
    up_and_check_the_first_word(&env, "qemu");
}

/// Starts the sandbox of `env` on `engine`. The moment its guest says something, its process is stopped, and every thread has a filter
/// of its own.
pub(crate) fn up_and_check_the_first_word(env: &Environment, engine: &str) {
    // Otherwise a guest has nothing to say on its console. The first line is a notice.
    let mut up = env.command(&["up", "--engine", engine, "-d"]);
    let mut up = up.env("SBX_KERNEL_ARGS", "loglevel=6").stdin(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + FIRST_WORD;
    while said(env).is_empty() {
        assert!(Instant::now() < deadline && up.try_wait().unwrap().is_none(), "the guest says nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let process = process_of(env, "sandbox-process");
    send(&process, rustix::process::Signal::STOP);
    let threads = filters(&process);
    send(&process, rustix::process::Signal::CONT);
    assert!(threads.values().all(|filters| *filters > common_filters()), "{threads:?}");
    assert!(threads.len() > 5, "{threads:?}");
    assert!(up.wait().unwrap().success());
}

/// What is on the console of the sandbox of `env`, as soon as there is one.
fn said(env: &Environment) -> String {
    let sandboxes = fs::read_dir(env.home().join("sandboxes")).into_iter().flatten().flatten();
    let logs = sandboxes.map(|sandbox| sandbox.path().join("run/console.log"));
    logs.filter_map(|log| fs::read_to_string(log).ok()).collect()
}

/// The number of filters that all threads of a sandbox process have: those of this process, which it inherits, and that of its cage.
fn common_filters() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let inherited = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).unwrap();
    inherited.trim().parse::<u32>().unwrap() + 1
}

/// The directories below `/proc` of the sandbox process of `env` and of its engine.
fn processes(env: &Environment) -> (PathBuf, PathBuf) {
    (process_of(env, "sandbox-process"), process_of(env, "qemu-system"))
}

/// The directory below `/proc` of the process of `env` that runs `program`.
pub(crate) fn process_of(env: &Environment, program: &str) -> PathBuf {
    let mut processes = robustness::processes(env).into_iter().map(|id| PathBuf::from(format!("/proc/{id}")));
    let runs = |process: &PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(program)
    };
    processes.find(runs).unwrap_or_else(|| panic!("there is no {program}"))
}

/// The number of filters of each thread of `process`, the least of those with one name; each is checked to have any, and no new
/// privileges.
fn filters(process: &Path) -> BTreeMap<String, u32> {
    let mut threads = BTreeMap::new();
    for thread in fs::read_dir(process.join("task")).unwrap().flatten() {
        // One that has ended meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2", "1"), "{status}");
        let filters: u32 = field("Seccomp_filters:").parse().unwrap();
        let least = threads.entry(field("Name:").to_owned()).or_insert(filters);
        *least = filters.min(*least);
    }
    threads
}

fn send(process: &Path, signal: rustix::process::Signal) {
    let number = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(number).unwrap(), signal).unwrap();
}

/// Waits until the sandbox of `env` has no process any more.
fn wait_until_dead(env: &Environment) {
    let lock = fs::File::open(env.sandbox().join("alive.lock")).unwrap();
    lock.lock_shared().unwrap();
}

#[test]
fn sandboxes_cannot_reach_their_own_store() {
    // A workspace that holds SBX_HOME would let the guest rewrite kernels and layers.
    let env = Environment::new().with_busybox();
    let inner = env.repo().join("store");
    fs::create_dir(&inner).unwrap();
    let mut command =
        env.command(&["up", "--", "sh", "-c", "sudo sh -c 'echo evil > store/evil; mkdir store/x'"]);
    let output = command.env("SBX_HOME", &inner).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(!inner.join("evil").exists() && !inner.join("x").exists());
    let mut remove = env.command(&["rm", "--force"]);
    assert!(remove.env("SBX_HOME", &inner).output().unwrap().status.success());
}
