//! Packages of a repository of the tests' own, installed with the dnf and rpm of Debian in an image that looks like one of rpms.

use std::fs;

use sbx_tests::{
    Environment, ImageBuilder,
    packages::{RpmPackage, RpmRepository, system},
};

use super::{
    layers, leftovers,
    site::{ADDRESS, Site, assert_same_elsewhere, layout},
    up,
};

fn repository(site: &Site) -> RpmRepository {
    RpmRepository::new(&site.directory().join("rpms"))
}

fn image(site: &Site) -> String {
    let source = RpmRepository::source(&format!("{}/rpms", Site::url()));
    let image = system(ImageBuilder::over(layout("SBX_TEST_DNF")));
    site.image(image.file("etc/yum.repos.d/tests.repo", 0o644, source.as_bytes()))
}

fn checkout(site: &Site, image: &str, packages: &str) -> Environment {
    site.checkout(image, &format!("packages {{ dnf {packages}; }}"))
}

#[test]
fn packages_are_pinned_with_what_they_need_and_make_the_same_layer_elsewhere() {
    let site = Site::new();
    let (repository, image) = (repository(&site), image(&site));
    let greeting = RpmPackage {
        name: "greeting",
        version: "1.0",
        files: &[("/usr/share/greeting/text", "hello\n")],
        ..RpmPackage::default()
    };
    let hash = repository.publish(&greeting);
    repository.publish(&RpmPackage {
        name: "nosy",
        version: "2:1.5~rc1",
        requires: "greeting",
        post: "{ date +%F; wc -l < /proc/net/route; hostname; } > /etc/nosy",
        ..RpmPackage::default()
    });
    let env = checkout(&site, &image, "\"nosy\"");
    env.sbx(&["lock", "--yes"]).success().stderr_has("packages  dnf  2 packages");
    let lock = env.read("sandbox.lock");
    for line in [
        &format!("dnf \"greeting\" \"1.0-1\" architecture=\"noarch\" hash=\"sha256:{hash}\""),
        "dnf \"nosy\" \"2:1.5~rc1-1\" architecture=\"noarch\" hash=\"sha256:",
        "package \"dnf:nosy\"",
    ] {
        assert!(lock.contains(line), "no {line} in {lock}");
    }
    // A newer one of what it needs is not taken.
    repository.publish(&RpmPackage { version: "1.1", ..greeting.clone() });
    // As the agent's user, who may not write to the database.
    let script =
        "cat /etc/nosy; rpm -qa | sort; rpm -V --nomtime greeting nosy && cat /usr/share/greeting/text";
    let seen = env.sbx(&["up", "--yes", "--locked", "--", "sh", "-c", script]).success().stdout();
    let (_, seen) = seen.split_once('\n').unwrap();
    // Of the table of routes there is the heading.
    assert_eq!(seen, "1\nsandbox\ngreeting-1.0-1.noarch\nnosy-1.5~rc1-1.noarch\nsystem-1-1.noarch\nhello\n");
    assert_eq!(leftovers(&env), 0);
    assert_same_elsewhere(&env, &site.checkout_elsewhere(&image, "packages { dnf \"nosy\"; }"));
}

#[test]
fn what_is_pinned_stays_until_it_is_updated_and_another_file_is_refused_before_it_runs() {
    let site = Site::new();
    let (repository, image) = (repository(&site), image(&site));
    let publish = |name, version, post| {
        repository.publish(&RpmPackage { name, version, post, ..RpmPackage::default() });
    };
    publish("tool", "1.0", "echo right > /etc/tool");
    let env = checkout(&site, &image, "\"tool\"");
    env.sbx(&["lock", "--yes"]).success();
    publish("tool", "1.1", "echo newer > /etc/tool");
    publish("other", "3", "true");
    env.sbx(&["add", "--yes", "dnf:other"]).success();
    let lock = env.read("sandbox.lock");
    assert!(lock.contains("dnf \"tool\" \"1.0-1\"") && lock.contains("dnf \"other\" \"3-1\""), "{lock}");

    publish("tool", "1.0", "echo wrong > /etc/tool");
    let env = checkout(&site, &image, "\"other\" \"tool\"");
    env.write("sandbox.lock", &lock);
    let refused = up(&env, "cat /etc/tool").exits(125).stderr_has("packages dnf: refused tool 1.0-1");
    assert!(!refused.stderr.contains("installing"), "{refused:?}");
    assert!(layers(&env).is_empty());

    repository.withdraw("tool", "1.0");
    up(&env, "true")
        .exits(125)
        .stderr_has("the registries have no tool 1.0-1 any more")
        .stderr_has("`sbx lock --update tool` takes the version that they have");
    env.sbx(&["lock", "--yes", "--update", "tool"]).success().stderr_has("tool 1.0-1 → 1.1-1");
}

#[test]
fn what_cannot_be_found_or_installed_is_told_with_what_was_said() {
    let site = Site::new();
    let (repository, image) = (repository(&site), image(&site));
    let broken = RpmPackage {
        name: "broken",
        version: "1",
        pre: "echo 'it says no'; exit 3",
        ..RpmPackage::default()
    };
    repository.publish(&broken);
    let env = checkout(&site, &image, "\"nowhere\"");
    up(&env, "true")
        .exits(125)
        .stderr_has("packages dnf: the packages could not be found")
        .stderr_has("Unable to find a match: nowhere");
    let env = checkout(&site, &image, "\"broken\"");
    up(&env, "true").exits(125).stderr_has("the installation failed").stderr_has("it says no");
    assert_eq!(leftovers(&env), 0);
}

#[test]
fn a_mirror_that_only_a_list_of_mirrors_names_is_reached_when_the_manifest_allows_it() {
    let site = Site::new();
    repository(&site).publish(&RpmPackage { name: "tool", version: "1", ..RpmPackage::default() });
    let mirrors = ["other.example.org", "mirror.example.org"];
    let list = mirrors.map(|name| format!("http://{name}/rpms\n")).concat();
    fs::write(site.directory().join("mirrors"), list).unwrap();
    for name in mirrors {
        site.lan.name(name, "A", &[ADDRESS]);
    }
    let source = RpmRepository::source_of_mirrors(&format!("{}/mirrors", Site::url()));
    let image = system(ImageBuilder::over(layout("SBX_TEST_DNF")));
    let image = site.image(image.file("etc/yum.repos.d/tests.repo", 0o644, source.as_bytes()));
    let env = checkout(&site, &image, "\"tool\"");
    env.sbx(&["lock", "--yes"]).exits(125).stderr_has("to allow it: allow \"mirror.example.org\"");

    let rules = "packages { dnf \"tool\"; }\nnetwork { allow \"mirror.example.org\"; }";
    let env = site.checkout(&image, rules);
    env.sbx(&["lock", "--yes"]).success();
    assert!(env.read("sandbox.lock").contains("dnf \"tool\" \"1-1\""));
}
