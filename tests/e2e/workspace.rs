//! The workspace: the same files on both sides, and nothing else of the host.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
};

use sbx_tests::Environment;

#[test]
fn files_belong_to_the_user_on_both_sides() {
    for env in [Environment::new(), Environment::unprivileged()] {
        let env = env.with_busybox();
        env.write("from-host", "host");
        let inside = env.up("id -u; stat -c %u from-host; echo guest > from-guest; mkdir d; stat -c %u from-guest d; cat from-host");
        let text = inside.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "1000", "whoever the user is");
        assert_eq!(lines[0], lines[1], "the agent owns the host user's files: {lines:?}");
        assert_eq!(&lines[2..], [lines[0], lines[0], "host"]);
        for name in ["from-guest", "d"] {
            assert_eq!(fs::metadata(env.repo().join(name)).unwrap().uid(), env.uid(), "{name}");
        }
        assert_eq!(env.read("from-guest"), "guest\n");
    }
}

#[test]
fn files_made_by_root_inside_are_the_users_too() {
    let env = Environment::new().with_busybox();
    env.up("sudo sh -c 'echo x > by-root; chmod 4755 by-root; chown 0:0 by-root; mkfifo pipe; mknod dev c 1 3 || true'").success();
    let made = fs::metadata(env.repo().join("by-root")).unwrap();
    assert_eq!(made.uid(), env.uid());
    assert_eq!(made.mode() & 0o7000, 0, "no set-user-id file for the host");
    assert!(!env.repo().join("dev").exists(), "no device node for the host");
}

#[test]
fn what_decides_over_the_sandbox_cannot_be_changed_from_inside() {
    let env = Environment::new().with_busybox();
    env.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    env.write(".git/HEAD", "ref: refs/heads/main\n");
    let manifest = env.read("sandbox.kdl");
    env.sbx(&["up", "-d"]).success();
    for attempt in [
        "echo evil >> sandbox.kdl",
        "rm -f sandbox.kdl",
        "mv sandbox.kdl other",
        "echo evil > new && mv -f new sandbox.kdl",
        "ln sandbox.kdl alias",
        "truncate -s 0 sandbox.kdl",
        "chmod 777 sandbox.kdl",
        "echo evil > sandbox.lock",
        "ln -s /etc/passwd sandbox.lock",
        "echo evil > .git/hooks/post-checkout",
        "echo evil >> .git/hooks/pre-commit",
        "rm -rf .git/hooks",
        "mv .git/hooks .git/other",
        "mv .git git-aside",
    ] {
        let outcome = env.exec(&format!("sudo sh -c '{attempt}'"));
        assert_ne!(outcome.code, Some(0), "`{attempt}` was allowed");
    }
    assert_eq!(env.read("sandbox.kdl"), manifest);
    assert!(!env.repo().join("sandbox.lock").exists());
    assert_eq!(env.read(".git/hooks/pre-commit"), "#!/bin/sh\n");
    assert_eq!(fs::read_dir(env.repo().join(".git/hooks")).unwrap().count(), 1);
    env.exec("echo fine > .git/config && cat sandbox.kdl > copy").success();
    assert_eq!(env.read("copy"), manifest);
}

#[test]
fn symbolic_links_lead_to_the_guest_not_to_the_host() {
    let env = Environment::new().with_busybox();
    let secret = env.outside().join("secret");
    fs::write(&secret, "of the host").unwrap();
    std::os::unix::fs::symlink(&secret, env.repo().join("absolute")).unwrap();
    std::os::unix::fs::symlink("../home/secret", env.repo().join("relative")).unwrap();
    std::os::unix::fs::symlink("/", env.repo().join("root")).unwrap();
    let secret = secret.to_str().unwrap();
    let outcome = env.up(&format!("cat absolute relative root{secret} {secret} ../home/secret; ls .."));
    assert!(!outcome.stdout().contains("of the host"), "{outcome:?}");
    // Written through a link from inside, nothing appears outside.
    env.up("sudo sh -c 'mkdir -p $(dirname $(readlink absolute)); echo guest > absolute'").success();
    assert_eq!(fs::read_to_string(secret).unwrap(), "of the host");
}

#[test]
fn mounts_are_where_they_are_declared_and_read_only_holds() {
    let env = Environment::new();
    let env = env.with_busybox();
    fs::create_dir(env.outside().join("shared")).unwrap();
    fs::create_dir(env.outside().join("fixed")).unwrap();
    fs::write(env.outside().join("fixed/file"), "fixed").unwrap();
    let manifest = env.read("sandbox.kdl");
    env.write(
        "sandbox.kdl",
        format!("{manifest}mount \"~/shared\" at=\"/src/shared\"\nmount \"~/fixed\" readonly=#true\n"),
    );
    // Mounts outside the repository are asked for; nobody is there to answer.
    env.up("true").exits(2).stderr_has("sbx up --yes");
    let fixed = env.outside().join("fixed");
    let fixed = fixed.to_str().unwrap();
    let script = format!("echo x > /src/shared/new && cat {fixed}/file");
    assert_eq!(env.sbx(&["up", "--yes", "--", "sh", "-c", &script]).text(), "fixed");
    assert_eq!(fs::read_to_string(env.outside().join("shared/new")).unwrap(), "x\n");
    // Remounted read-write by the guest's root, the server still refuses.
    let attack = format!(
        "sudo mount -o remount,rw,bind {fixed}; sudo sh -c 'echo evil > {fixed}/file'; sudo rm -f {fixed}/file; \
         sudo sh -c 'echo evil > {fixed}/new'; sudo chmod 777 {fixed}/file; sudo mv {fixed}/file {fixed}/moved; true"
    );
    env.up(&attack).success();
    assert_eq!(fs::read_to_string(env.outside().join("fixed/file")).unwrap(), "fixed");
    assert_eq!(fs::read_dir(env.outside().join("fixed")).unwrap().count(), 1);
}

#[test]
fn names_that_are_not_text_are_names() {
    let env = Environment::new().with_busybox();
    let name = OsStr::from_bytes(b"caf\xe9\xff");
    fs::write(env.repo().join(name), "latin").unwrap();
    env.up("cat caf*; printf 'x' > \"$(printf 'a\\377b')\"").success();
    assert_eq!(fs::read(env.repo().join(OsStr::from_bytes(b"a\xffb"))).unwrap(), b"x");
}

#[test]
fn links_renames_locks_and_holes_behave() {
    let env = Environment::new().with_debian();
    let script = r#"set -e
        echo one > a; ln a b; echo two >> b; test "$(cat a)" = "$(printf 'one\ntwo')"; test "$(stat -c %h a)" = 2
        exec 3< a; echo three > c; mv c a; test "$(cat <&3)" = "$(printf 'one\ntwo')"; test "$(cat a)" = three
        echo gone > d; exec 4< d; rm d; test "$(cat <&4)" = gone
        truncate -s 1G sparse; printf end >> sparse; test "$(stat -c %s sparse)" = 1073741827
        exec 5> lock; flock -n 5; if sh -c 'exec 6> lock; flock -n 6'; then exit 9; fi
        mkdir -p deep/er; mv deep other; test -d other/er
        chmod 640 a; test "$(stat -c %a a)" = 640
        echo ok"#;
    assert!(env.up(script).text().ends_with("ok"));
    let sparse = fs::metadata(env.repo().join("sparse")).unwrap();
    assert_eq!(sparse.len(), 1_073_741_827);
    assert!(sparse.blocks() * 512 < 1 << 20, "the hole is a hole on the host too");
    assert_eq!(fs::metadata(env.repo().join("a")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn git_works_on_the_workspace() {
    let env = Environment::new().with_debian();
    let script = r#"set -e
        git init -q -b main . && git config user.email a@example.com && git config user.name A
        for i in $(seq 1 200); do echo $i > file$i; done
        git add file* && git commit -qm first && git status --porcelain | grep -v sandbox.kdl | wc -l
        git checkout -q -b other && echo x >> file1 && git commit -qam second && git checkout -q main && git merge -q other
        git log --oneline | wc -l"#;
    assert_eq!(env.up(script).text(), "0\n2");
    let log = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "-C", env.repo().to_str().unwrap(), "fsck", "--strict"])
        .output()
        .unwrap();
    assert!(log.status.success(), "{}", String::from_utf8_lossy(&log.stderr));
}

#[test]
fn python_maps_files_and_sets_attributes() {
    let env = Environment::new().with_debian();
    env.write(
        "probe.py",
        r#"import mmap, os
open("m", "wb").write(b"\0" * 8192)
with open("m", "r+b") as f:
    m = mmap.mmap(f.fileno(), 0); m[4096:4101] = b"hello"; m.flush(); m.close()
assert open("m", "rb").read()[4096:4101] == b"hello"
os.setxattr("m", "user.note", b"kept"); assert os.getxattr("m", "user.note") == b"kept"
try: os.setxattr("m", "security.capability", b"\1\0\0\2" + b"\0" * 16); raise SystemExit("capability set")
except OSError: pass
print("ok")
"#,
    );
    assert_eq!(env.up("python3 probe.py").text(), "ok");
    assert_eq!(&fs::read(env.repo().join("m")).unwrap()[4096..4101], b"hello");
}

#[test]
fn twenty_thousand_small_files_come_and_go() {
    let env = Environment::new().with_debian();
    env.write(
        "tree.py",
        r#"import os, shutil
for d in range(200):
    os.makedirs(f"modules/p{d}/lib")
    for f in range(100):
        with open(f"modules/p{d}/lib/f{f}.js", "w") as out: out.write(f"{d} {f}\n")
count = sum(len(files) for _, _, files in os.walk("modules"))
for d in range(0, 200, 2): shutil.rmtree(f"modules/p{d}")
print(count, sum(len(files) for _, _, files in os.walk("modules")))
"#,
    );
    assert_eq!(env.up("python3 tree.py").text(), "20000 10000");
    assert_eq!(fs::read_dir(env.repo().join("modules")).unwrap().count(), 100);
    assert_eq!(env.read("modules/p1/lib/f99.js"), "1 99\n");
}

#[test]
fn edits_on_the_host_are_seen_inside() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    env.write("note", "first");
    assert_eq!(env.exec("cat note").text(), "first");
    env.write("note", "second, and longer");
    // Attributes may be cached for a second; a loop that ends when the change is there waits on nothing else.
    assert_eq!(
        env.exec("until grep -q second note; do sleep 0.1; done; cat note").text(),
        "second, and longer"
    );
}
