//! Packages of a repository of the tests' own, installed with the apk of Alpine.

use sbx_tests::{
    Environment, ImageBuilder,
    packages::{AlpinePackage, AlpineRepository},
};

use super::{
    forget, layers, leftovers,
    site::{Site, layout, snapshot},
    up,
};

/// Notes all that a package can find out about the machine that it is installed in.
const NOSY: &str = "{ date +%F; hostname; whoami; pwd; wc -l < /proc/net/route; env | sort; } > /etc/nosy\n\
    adduser -S -D -H nosy; mkdir -p /var/cache/nosy /var/log/nosy; date > /var/log/nosy/log; date > /var/cache/nosy/cache";

fn serve(site: &Site) -> AlpineRepository {
    AlpineRepository::new(&site.directory().join("alpine"))
}

/// Alpine, which is set up for the repository and nothing else.
fn alpine(site: &Site, repository: &AlpineRepository) -> String {
    let (path, key) = repository.public_key();
    let source = format!("{}/alpine\n", Site::url());
    let image = ImageBuilder::over(layout("SBX_TEST_ALPINE")).file(&path, 0o644, &key);
    site.image(image.file("etc/apk/repositories", 0o644, source.as_bytes()))
}

fn with_one_processor(env: Environment) -> Environment {
    let manifest = env.read("sandbox.kdl").replace("cpus=2", "cpus=1");
    env.manifest(&manifest)
}

#[test]
fn the_same_packages_make_the_same_layer_whoever_installs_them() {
    let site = Site::new();
    let repository = serve(&site);
    // As many as make apk write numbers of two digits.
    let parts: Vec<String> = (0..9).map(|number| format!("part{number}")).collect();
    for name in &parts {
        repository.publish(&AlpinePackage { name, version: "1-r0", ..AlpinePackage::default() });
    }
    repository.publish(&AlpinePackage {
        name: "greeting",
        version: "1.0_rc1-r2",
        depends: &parts.join(" "),
        files: &[("/usr/share/greeting/text", "hello\n")],
        ..AlpinePackage::default()
    });
    repository.publish(&AlpinePackage {
        name: "nosy",
        version: "1.5-r0",
        depends: "greeting>=1.0_rc1",
        post_install: NOSY,
        ..AlpinePackage::default()
    });
    let image = alpine(&site, &repository);
    let packages = "packages { apk \"nosy>1\"; }";

    let first = with_one_processor(site.checkout(&image, packages));
    let seen = up(
        &first,
        "cat /etc/nosy /usr/share/greeting/text /etc/apk/world; ls /var/log/nosy; id nosy; apk info -e greeting",
    );
    let seen = seen.success().stderr_has("downloading 11 files").stderr_has("packages  apk  11 packages");
    let text = seen.stdout();
    assert!(text.contains("\nsandbox\nroot\n/\n1\n"), "{text}");
    assert!(text.contains("\nhello\nalpine-baselayout\n") && text.contains("\nnosy\nuid="), "{text}");
    assert!(!text.contains("\nlog\n") && !text.contains("><"), "{text}");
    assert_eq!(leftovers(&first), 0);
    let lock = first.read("sandbox.lock");
    let pinned = |name: &str, version: &str| {
        let start = format!("apk \"{name}\" \"{version}\" architecture=\"x86_64\" hash=\"sha256:");
        lock.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!(
        [pinned("nosy", "1.5-r0"), pinned("greeting", "1.0_rc1-r2"), pinned("part8", "1-r0")],
        [1; 3],
        "{lock}"
    );

    let second = site.checkout_elsewhere(&image, packages);
    second.write("sandbox.lock", &lock);
    second.write("unrelated", "a file that the first has not");
    second.sbx(&["up", "--yes", "--locked", "--", "true"]).success();
    assert_eq!(layers(&second), layers(&first));
    assert_eq!(snapshot(&second), snapshot(&first));
}

#[test]
fn a_file_that_was_not_pinned_is_refused_before_it_runs_and_a_version_that_is_gone_is_named() {
    let site = Site::new();
    let repository = serve(&site);
    let publish = |name, version, post_install| {
        repository.publish(&AlpinePackage { name, version, post_install, ..AlpinePackage::default() });
    };
    publish("tool", "1.0-r0", "echo right > /etc/tool");
    publish("tool", "1.1-r0", "echo newer > /etc/tool");
    let image = alpine(&site, &repository);
    let env = site.checkout(&image, "packages { apk \"tool<1.1\"; }");
    assert_eq!(up(&env, "cat /etc/tool").text(), "right");

    forget(&env);
    publish("tool", "1.0-r0", "echo wrong > /etc/tool");
    let refused =
        up(&env, "cat /etc/tool").exits(125).stderr_has("sandbox.kdl:4: packages apk: refused tool 1.0-r0");
    let refused = refused.stderr_has("hint: nothing of it has run").stderr_has("`sbx lock --update tool`");
    assert!(!refused.stderr.contains("installing"), "{refused:?}");
    assert!(layers(&env).is_empty());

    repository.withdraw("tool", "1.0-r0");
    up(&env, "true")
        .exits(125)
        .stderr_has("the registries have no tool 1.0-r0 any more")
        .stderr_has("`sbx lock --update tool` takes the version that they have");
    // Repositories keep no old versions: one more package is no reason to fail.
    publish("other", "3-r0", "true");
    let manifest = env.read("sandbox.kdl").replace("\"tool<1.1\"", "\"tool\" \"other\"");
    let env = env.manifest(&manifest);
    env.sbx(&["lock", "--yes"]).success().stderr_has("+ other 3-r0").stderr_has("tool 1.0-r0 → 1.1-r0");
}

#[test]
fn what_a_stranger_signed_and_what_is_not_there_is_not_installed() {
    let site = Site::new();
    let repository = serve(&site);
    let image = alpine(&site, &repository);
    let env = site.checkout(&image, "packages { apk \"nowhere\"; }");
    up(&env, "true")
        .exits(125)
        .stderr_has("sandbox.kdl:4: packages apk: the packages could not be found")
        .stderr_has("nowhere (no such package)");
    let stranger = serve(&site);
    stranger.publish(&AlpinePackage { name: "nowhere", version: "1-r0", ..AlpinePackage::default() });
    up(&env, "true").exits(125).stderr_has("BAD signature");
}
