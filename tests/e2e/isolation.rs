//! What a guest cannot do.

use std::fs;

use sbx_tests::Environment;

#[test]
fn there_is_no_network_without_a_rule() {
    let env = Environment::new().with_busybox();
    // Interfaces of the kernel's own may exist; a network card would have a device behind it.
    let outcome = env.up("ls -d /sys/class/net/*/device; cat /proc/net/route | wc -l").success();
    assert_eq!(outcome.stdout(), "1\n", "no card, and no route under the heading: {outcome:?}");
}

#[test]
fn the_sandbox_process_can_open_its_own_files_only() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    // The process and its QEMU are told apart from ours by their command lines.
    let directory = env.sandbox();
    let mut checked = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(command) = fs::read(process.path().join("cmdline")) else { continue };
        let command = String::from_utf8_lossy(&command).into_owned();
        let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        if (command.contains("sandbox-process") && command.contains(directory.to_str().unwrap()))
            || (command.contains("qemu-system") && cwd.starts_with(&directory))
        {
            let status = fs::read_to_string(process.path().join("status")).unwrap();
            assert!(status.contains("NoNewPrivs:\t1"), "{command}");
            checked += 1;
        }
    }
    assert_eq!(checked, 2, "the sandbox process and its engine");
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
