//! `sbx up -- CMD`: from a manifest to an exit code.

use std::os::unix::fs::MetadataExt;

use sbx_tests::{Environment, ImageBuilder};

#[test]
fn a_command_runs_and_its_exit_code_comes_back() {
    let env = Environment::new().with_busybox();
    let outcome = env.up("echo hello; echo oops >&2; exit 41").exits(41);
    assert_eq!(outcome.stdout(), "hello\n");
    outcome.stderr_has("oops");
}

#[test]
fn a_real_debian_image_comes_from_the_registry() {
    let env = Environment::new().with_debian();
    let first = env.up("cat /etc/os-release && git --version && nproc").success();
    assert!(first.stdout().contains("VERSION_CODENAME=bookworm"), "{first:?}");
    assert!(first.stdout().contains("git version"), "{first:?}");
    assert!(first.stdout().ends_with("2\n"), "{first:?}");
    first.stderr_has("image     docker.io/library/debian:bookworm-slim").stderr_has("snapshot");

    let second = env.up("true").success();
    assert!(!second.stderr.contains("layer"), "nothing is pulled twice: {second:?}");
    assert!(!second.stderr.contains("snapshot"), "nothing is built twice: {second:?}");
}

const SAME_IDS: &str = "1000\n1000\nagent\n1000:1000\n1000:1000";

#[test]
fn an_ordinary_user_needs_no_privilege() {
    let env = Environment::unprivileged().with_busybox();
    // Inside, the agent has one id for everybody, because layers do not depend on who made them.
    assert_eq!(env.up("id -u > made; id -u; id -g; id -un; stat -c %u:%g made sandbox.kdl").text(), SAME_IDS);
    assert_eq!(env.read("made").trim(), "1000");
    assert_eq!(std::fs::metadata(env.repo().join("made")).unwrap().uid(), env.uid());
}

#[test]
fn an_image_without_a_shell_runs_its_program() {
    let env = Environment::new();
    let program = std::fs::read("/bin/busybox").unwrap();
    // An applet is chosen by the program's name, so one file is enough of an image.
    let image = env.image("scratch", ImageBuilder::scratch().file("cat", 0o755, &program));
    let env = env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n"
    ));
    env.write("note", "from the host");
    assert_eq!(env.sbx(&["up", "--", "/cat", "note"]).text(), "from the host");
    let refused = env.sbx(&["up", "--", "sh", "-c", "true"]).exits(127);
    refused.stderr_has("sh");
}

#[test]
fn commands_that_cannot_run_have_codes_of_their_own() {
    let env = Environment::new().with_busybox();
    env.write("data", "not a program");
    env.sbx(&["up", "--", "no-such-program"]).exits(127).stderr_has("no-such-program");
    let data = env.repo().join("data");
    env.sbx(&["up", "--", data.to_str().unwrap()]).exits(126);
    assert_eq!(env.up("kill -9 $$").code, Some(137));
}

#[test]
fn the_environment_is_the_images_then_the_manifests_then_the_users() {
    let env = Environment::new();
    let image = ImageBuilder::busybox().env("FROM_IMAGE", "image").env("BOTH", "image");
    let image = env.image("env", image);
    let env = env.manifest(&format!(
        "agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\nenv {{\n  BOTH \"manifest\"\n  MINE \"a b\"\n}}\n"
    ));
    env.sbx(&["up", "-d"]).success();
    assert_eq!(env.exec("echo $FROM_IMAGE $BOTH $MINE").text(), "image manifest a b");
    assert_eq!(env.sbx(&["exec", "-e", "MINE=c", "--", "sh", "-c", "echo $MINE"]).text(), "c");
}

#[test]
fn the_machine_is_the_one_that_the_manifest_declares() {
    let env = Environment::new();
    let image = env.image("busybox", ImageBuilder::busybox());
    let env = env.manifest(&format!(
        "sandbox \"payments\"\nagent \"shell\"\nimage \"{image}\"\nresources cpus=2 memory=\"512MiB\" disk=\"3GiB\"\n"
    ));
    let report = env
        .up("hostname; nproc; grep MemTotal /proc/meminfo | tr -dc 0-9; echo; df -m / | tail -n 1 | tr -s ' ' | sed 's/^ *//'; pwd")
        .success();
    let text = report.stdout();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "payments");
    assert_eq!(lines[1], "2");
    let memory_kib: u64 = lines[2].parse().unwrap();
    assert!((430_000..=524_288).contains(&memory_kib), "{memory_kib}");
    let disk_mib: u64 = lines[3].split(' ').nth(1).unwrap().parse().unwrap();
    assert!((2700..=3072).contains(&disk_mib), "{text}");
    assert_eq!(lines[4], env.repo().to_str().unwrap());
}

#[test]
fn root_is_there_on_request() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    assert_eq!(env.exec("id -u").text(), "1000");
    assert_eq!(env.exec("sudo id -u").text(), "0");
    assert_eq!(env.sbx(&["exec", "-u", "root", "--", "id", "-u"]).text(), "0");
    assert_eq!(env.sbx(&["exec", "-u", "12:34", "--", "sh", "-c", "id -u; id -g"]).text(), "12\n34");
    assert_eq!(env.sbx(&["exec", "-w", "/tmp", "--", "pwd"]).text(), "/tmp");
}
