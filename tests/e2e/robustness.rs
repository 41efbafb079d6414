//! Everything that can be killed, filled or missing.

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use sbx_tests::{Environment, ImageBuilder};

/// Processes that belong to the sandboxes of `env`: sandbox processes and their engines.
pub(crate) fn processes(env: &Environment) -> Vec<i32> {
    let home = env.home();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let cwd = fs::read_link(process.path().join("cwd")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&command).contains(home.to_str().unwrap())
            && String::from_utf8_lossy(&command).contains("sandbox-process");
        if ours || cwd.starts_with(home.join("sandboxes")) {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn kill(pid: i32) {
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    );
}

#[test]
fn a_killed_sandbox_process_takes_its_engine_along_and_the_next_up_works() {
    let env = Environment::new().on_qemu().with_busybox();
    env.sbx(&["up", "-d"]).success();
    env.exec("echo kept > kept; sudo sh -c 'echo disk > /etc/kept; sync'").success();
    let victims = processes(&env);
    assert_eq!(victims.len(), 2);
    for pid in victims {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("sandbox-process") {
            kill(pid);
        }
    }
    assert_eq!(env.exec("cat kept /etc/kept").text(), "kept\ndisk");
}

#[test]
fn a_qemu_that_is_too_old_is_named() {
    let env = Environment::new().on_qemu().with_busybox();
    let program = env.home().join("old-qemu");
    fs::write(
        &program,
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo QEMU emulator version 6.2.0\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = env.command(&["up", "--", "true"]).env("SBX_QEMU", &program).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("is version 6.2; sbx needs 7.2 or newer"),
        "{stderr}"
    );
}

#[test]
fn a_killed_engine_is_reported_at_once() {
    let env = Environment::new().on_qemu().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut child = env
        .command(&["exec", "--", "sh", "-c", "echo ready; sleep 1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child);
    for pid in processes(&env) {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains("qemu-system") {
            kill(pid);
        }
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped before the command ended"));
    let list = env.sbx(&["ls"]).success().stdout();
    assert!(list.contains("stopped") && list.contains("signal"), "{list}");
    env.exec("true").success();
}

#[test]
fn a_killed_user_interface_ends_its_command_and_sandbox() {
    let env = Environment::new().with_busybox();
    let mut child = env
        .command(&["up", "--", "sh", "-c", "echo ready; sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    // Waits for the power-off that the lost lease began.
    let mut logs = env.command(&["logs", "--follow"]);
    assert!(logs.stdout(Stdio::null()).status().unwrap().success());
    assert!(processes(&env).is_empty());
}

#[test]
fn fifty_kills_at_random_points_never_need_a_repair() {
    let env = Environment::new();
    let image = env.image("busybox", ImageBuilder::busybox());
    let env = env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n"
    ));
    let mut state = 0x9e37_79b9_u32;
    for round in 0..50_u32 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Between an empty store and a running command, in steps that a boot takes: system calls of the program.
        let mut child = env
            .command(&["up", "--", "sh", "-c", "echo round > file; sync; sleep 1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The one place where a test looks at the clock: the point of the kill is meant to be arbitrary.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(state % 1500)));
        let mut victims = processes(&env);
        victims.push(i32::try_from(child.id()).unwrap());
        let victim = victims[usize::try_from(state >> 8).unwrap() % victims.len()];
        kill(victim);
        if round % 2 == 0 {
            child.kill().unwrap();
        } else {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&child),
                rustix::process::Signal::TERM,
            );
        }
        child.wait().unwrap();
        if round % 10 == 9 {
            assert_eq!(env.up("echo alive").text(), "alive", "round {round}");
            env.sbx(&["image", "verify"]).success();
            if round % 20 == 19 {
                env.sbx(&["rm", "--force"]).success();
                env.sbx(&["image", "rm", &image]).success();
                env.sbx(&["prune"]).success();
            }
        }
    }
}

#[test]
fn an_engine_that_dies_early_is_quoted_at_once() {
    let env = Environment::new().on_qemu().with_busybox();
    // A program that has never heard of QEMU's options: busybox, as `ls`.
    let fake = env.outside().join("ls");
    fs::copy("/bin/busybox", &fake).unwrap();
    let run = |program: &std::path::Path| {
        let mut command = env.command(&["up", "--", "true"]);
        let output = command.env("SBX_QEMU", program).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = run(&fake);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("the engine said") && stderr.contains("sbx doctor"), "{stderr}");

    let (code, stderr) = run(&env.outside().join("not-there"));
    assert_eq!(code, Some(125));
    assert!(stderr.contains("not-there"), "{stderr}");
    env.up("true").success();
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_broken() {
    let env = Environment::new().with_busybox();
    let script =
        "$sbx up -- true; code=$?; rm -f $SBX_HOME/filler; $sbx df >/dev/null || exit 99; exit $code";
    let (code, _, stderr) = on_small_disk(&env, "1m", script);
    assert_eq!(code, Some(125), "{stderr}");
    assert!(stderr.to_lowercase().contains("space") || stderr.contains("full"), "{stderr}");
}

#[test]
fn a_host_disk_that_fills_up_under_a_guest_is_an_error_inside_and_needs_no_repair() {
    let env = Environment::new().with_busybox();
    let script = r#"
        set -e
        $sbx up -- sudo sh -c 'echo kept > /kept; sync'
        room=$(( $(stat -f -c '%a * %S' $SBX_HOME) - (2 << 20) ))
        head -c $room /dev/zero > $SBX_HOME/filler
        if $sbx up -- sudo dd if=/dev/urandom of=/big bs=1M count=16 conv=fsync; then exit 97; fi
        rm $SBX_HOME/filler
        $sbx up -- sudo sh -c 'rm -f /big; cat /kept; echo more > /more; sync; cat /more'
        cp --sparse=always $SBX_HOME/sandboxes/*/scratch.ext4 copy
        PATH=/usr/sbin:/sbin:$PATH e2fsck -fn copy >&2
        rm copy
    "#;
    let (code, stdout, stderr) = on_small_disk(&env, "24m", script);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, "kept\nmore\n");
    assert!(stderr.contains("Input/output error") || stderr.contains("I/O error"), "{stderr}");
}

/// Runs a shell script whose `$sbx` keeps everything on a file system of `size`, in a mount namespace of its own, which
/// works for root and for users. Returns exit code, standard output and standard error.
fn on_small_disk(env: &Environment, size: &str, script: &str) -> (Option<i32>, String, String) {
    let small = env.outside().join("small");
    fs::create_dir(&small).unwrap();
    let sbx = env.command(&[]);
    let script = format!("mount -t tmpfs -o size={size} none $SBX_HOME || exit 98\n{script}");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).current_dir(env.repo());
    command.envs(sbx.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("sbx", sbx.get_program()).env("SBX_HOME", &small).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn wait_for_line(child: &mut Child) {
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0_u8; 1];
    while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
}
