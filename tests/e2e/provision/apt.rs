//! Packages of a repository of the tests' own, installed with the apt of Debian's image.

use std::path::PathBuf;

use sbx_tests::{
    Environment, ImageBuilder, Lan,
    lan::Service,
    packages::{DebianPackage, DebianRepository},
};
use tempfile::TempDir;

use super::{forget, layers, leftovers, up};

/// Where the repository is: a public address, on a network of the test's own.
const ADDRESS: &str = "192.0.1.8";

/// Notes all that a package can find out about the machine that it is installed in.
const NOSY: &str = "{ date +%F; hostname; whoami; pwd; wc -l < /proc/net/route; env | grep -v ^DPKG_ | sort; } > /etc/nosy\n\
    useradd --system nosy; mkdir -p /var/cache/nosy /var/log/nosy; date > /var/log/nosy/log; date > /var/cache/nosy/cache";

/// A repository that is served, and what has to live as long.
pub(super) struct Served {
    pub(super) repository: DebianRepository,
    pub(super) lan: Lan,
    _directory: TempDir,
}

pub(super) fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let repository = DebianRepository::new(&directory.path().join("debian"));
    let lan = Lan::new(&[ADDRESS]);
    lan.serve(&format!("{ADDRESS}:80"), Service::Files(directory.path().to_path_buf()));
    Served { repository, lan, _directory: directory }
}

/// The suite's Debian image, which is set up for the repository and nothing else.
fn debian() -> ImageBuilder {
    let layout = std::env::var_os("SBX_TEST_IMAGES")
        .expect("SBX_TEST_IMAGES is not set; run the tests with `cargo xtask test`");
    let source = DebianRepository::source(&format!("http://{ADDRESS}/debian"));
    ImageBuilder::over(PathBuf::from(layout)).file("etc/apt/sources.list", 0o644, source.as_bytes())
}

fn manifest(env: &Environment, cpus: u8, packages: &str) {
    env.write(
        "sandbox.kdl",
        format!(
            "agent \"shell\"\nimage \"oci-layout:{}\"\nresources cpus={cpus} memory=\"1GiB\" disk=\"4GiB\"\n\
             packages {{ apt {packages}; }}\n",
            env.outside().parent().unwrap().join("images/debian").display()
        ),
    );
}

pub(super) fn environment(served: &Served, cpus: u8, packages: &str) -> Environment {
    prepare(Environment::new(), served, cpus, packages)
}

fn prepare(env: Environment, served: &Served, cpus: u8, packages: &str) -> Environment {
    let env = env.on_lan(&served.lan);
    env.image("debian", debian());
    manifest(&env, cpus, packages);
    env
}

#[test]
fn the_same_packages_make_the_same_layer_whoever_installs_them() {
    let served = serve();
    served.repository.publish(&DebianPackage {
        name: "greeting",
        version: "1.0",
        files: &[("/usr/share/greeting/text", "hello\n")],
        ..DebianPackage::default()
    });
    served.repository.publish(&DebianPackage {
        name: "nosy",
        version: "2:1.5-1",
        depends: "greeting",
        postinst: NOSY,
        ..DebianPackage::default()
    });
    let first = environment(&served, 1, "\"nosy\"");
    let seen = first.sbx(&[
        "up",
        "--yes",
        "--",
        "sh",
        "-c",
        "cat /etc/nosy /usr/share/greeting/text; ls /var/log/nosy; id nosy",
    ]);
    let seen = seen.success().stderr_has("downloading 2 files").stderr_has("packages  apt  2 packages");
    let text = seen.stdout();
    // No name but everybody's, and no way to anywhere: of the table of routes there is the heading.
    assert!(text.contains("\nsandbox\nroot\n/\n1\n"), "{text}");
    assert!(text.contains("\nhello\n") && text.contains("uid="), "{text}");
    assert!(!text.contains("\nlog\n"), "{text}");
    assert_eq!(leftovers(&first), 0);

    let second = prepare(Environment::elsewhere(), &served, 2, "\"nosy\"");
    second.write("unrelated", "a file that the first has not");
    up(&second, "true").success();
    assert_eq!(layers(&second), layers(&first));
    first.sbx(&["lock", "--verify"]).success().stderr_has("built again, and the same");
    // It is there now.
    let again = up(&first, "true").success();
    assert!(!again.stderr.contains("downloading") && !again.stderr.contains("installing"), "{again:?}");
}

#[test]
fn what_has_arrived_before_a_failure_is_not_fetched_again_and_nor_is_what_was_there() {
    let served = serve();
    for name in ["one", "two", "three"] {
        let path = format!("/usr/share/{name}");
        let files = [(path.as_str(), "x")];
        let package = DebianPackage { name, version: "1", files: &files, ..DebianPackage::default() };
        served.repository.publish(&package);
    }
    let env = environment(&served, 1, "\"one\" \"two\"");
    let find_again = served.repository.lose("two", "1");
    up(&env, "true")
        .exits(125)
        .stderr_has("sandbox.kdl:4: packages apt: the download failed: it exited with 100")
        .stderr_has("404")
        .stderr_has("`sbx shell --at apt` opens a shell where it ran");
    find_again();
    up(&env, "cat /usr/share/one /usr/share/two").success().stderr_has("downloading 1 file");
    env.sbx(&["stop"]).success();
    env.sbx(&["reset"]).success();
    manifest(&env, 1, "\"one\" \"two\" \"three\"");
    up(&env, "cat /usr/share/three").success().stderr_has("downloading 1 file");
}

#[test]
fn a_package_that_is_not_there_is_named_with_its_line() {
    let served = serve();
    let env = environment(&served, 1, "\"nowhere\"");
    up(&env, "true")
        .exits(125)
        .stderr_has("sandbox.kdl:4: packages apt: the packages could not be found")
        .stderr_has("Unable to locate package nowhere");
}

#[test]
fn a_package_that_fails_to_install_leaves_nothing_and_can_be_looked_at() {
    let served = serve();
    let broken = DebianPackage {
        name: "broken",
        version: "1",
        postinst: "echo 'the postinst says no' >&2; exit 3",
        ..DebianPackage::default()
    };
    served.repository.publish(&broken);
    let env = environment(&served, 1, "\"broken\"");
    up(&env, "true").exits(125).stderr_has("the installation failed").stderr_has("the postinst says no");
    assert!(layers(&env).is_empty());
    assert_eq!(leftovers(&env), 0);
    let shell = env.sbx_with_input(&["shell", "--at", "apt"], b"id -u; apt-cache policy broken | head -1\n");
    assert_eq!(shell.success().stdout().lines().next(), Some("0"));
}

#[test]
fn what_was_not_pinned_is_refused_before_it_runs_and_what_is_gone_is_named_and_moved_alone() {
    let served = serve();
    let publish = |name, version, postinst| {
        let package = DebianPackage { name, version, postinst, ..DebianPackage::default() };
        served.repository.publish(&package);
    };
    publish("tool", "1.0", "echo right > /etc/tool");
    publish("other", "1.0", "true");
    let env = environment(&served, 1, "\"other\" \"tool\"");
    assert_eq!(up(&env, "cat /etc/tool").text(), "right");
    assert!(env.read("sandbox.lock").contains("\"tool\" \"1.0\""), "{}", env.read("sandbox.lock"));
    // With the lock there is nothing to look up.
    let again = up(&env, "true").success();
    assert!(!again.stderr.contains("packages"), "{again:?}");

    forget(&env);
    publish("tool", "1.0", "echo wrong > /etc/tool");
    let refused =
        up(&env, "cat /etc/tool").exits(125).stderr_has("sandbox.kdl:4: packages apt: refused tool 1.0");
    let refused = refused.stderr_has("hint: nothing of it has run").stderr_has("`sbx lock --update tool`");
    assert!(!refused.stderr.contains("installing"), "{refused:?}");
    assert!(layers(&env).is_empty());

    served.repository.withdraw("tool", "1.0");
    publish("tool", "1.1", "echo newer > /etc/tool");
    publish("other", "1.1", "true");
    up(&env, "true")
        .exits(125)
        .stderr_has("the registries have no tool 1.0 any more")
        .stderr_has("`sbx lock --update tool` takes the version that they have");
    let moved = env.sbx(&["lock", "--update", "tool"]).success().stderr_has("apt       tool 1.0 → 1.1");
    assert!(!moved.stderr.contains("other"), "{moved:?}");
    let lock = env.read("sandbox.lock");
    assert!(lock.contains("\"tool\" \"1.1\"") && lock.contains("\"other\" \"1.0\""), "{lock}");
    assert_eq!(up(&env, "cat /etc/tool").text(), "newer");
}
