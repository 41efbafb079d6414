//! A workspace of which the sandbox has a copy, and working trees of git.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use sbx_tests::Environment;

/// git on the host, as the user of `env` would run it.
fn git(env: &Environment, directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "user.name=A", "-c", "user.email=a@example.com"]);
    let output = command.arg("-C").arg(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    env.give_tree(directory);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn in_clone_mode(env: Environment) -> Environment {
    let manifest = format!("{}workspace \".\" mode=\"clone\"\n", env.read("sandbox.kdl"));
    env.manifest(&manifest)
}

#[test]
fn what_the_sandbox_does_to_its_copy_is_shown_and_brought_back() {
    for env in [Environment::new(), Environment::unprivileged()] {
        let env = in_clone_mode(env.with_busybox());
        env.write("src/main", "one\ntwo\n");
        env.write("old", "old\n");
        env.write("notes.log", "ignored\n");
        env.write(".gitignore", "*.log\n");
        let manifest = env.read("sandbox.kdl");
        let script = "set -e; pwd; ls -A; echo three >> src/main; rm old; printf '#!/bin/sh\\n' > run; chmod +x run; \
             echo x > made.log; echo evil >> sandbox.kdl; printf '\\033[2J\\n' > \"$(printf 'odd\\nname')\"; ls -ld /proc/self/cwd/src";
        let inside = env.up(script).success();
        let text = inside.stdout();
        assert_eq!(text.lines().next(), env.repo().to_str());
        assert!(text.contains("old\nsandbox.kdl\nsrc\n") && !text.contains("notes.log"), "{text}");
        assert_eq!(env.read("src/main"), "one\ntwo\n", "the workspace is not the sandbox's");
        assert!(env.sbx(&["ls"]).stdout().contains("(clone)"));
        assert!(env.sbx(&["status", "--json"]).stdout().contains("\"mode\": \"clone\""));

        let names = env.sbx(&["diff", "--name-only"]).stdout();
        assert_eq!(names, "\"odd\\nname\"\nold\nrun\nsandbox.kdl\nsrc/main\n");
        let diff = env.sbx(&["diff", "src"]).stdout();
        assert!(diff.starts_with("diff --git a/src/main b/src/main\nindex "), "{diff}");
        assert!(diff.ends_with("@@ -1,2 +1,3 @@\n one\n two\n+three\n"), "{diff}");
        let stat = env.sbx(&["diff", "--stat"]).stdout();
        assert!(stat.ends_with(" 5 files changed, 4 insertions(+), 1 deletion(-)\n"), "{stat}");
        let json: serde_json::Value = serde_json::from_str(&env.sbx(&["diff", "--json"]).stdout()).unwrap();
        assert_eq!(json[1]["status"], "removed");

        // What would be lost is not thrown away, and what decides over the sandbox does not come by itself.
        let _ = env.sbx(&["reset"]).exits(2).stderr_has("sbx reset --force");
        let _ = env.sbx(&["rm"]).exits(2).stderr_has("5 changed files, not applied");
        env.write("old", "changed by the user\n");
        let _ = env.sbx(&["apply"]).exits(2).stderr_has("old was changed on both sides");
        assert_eq!(env.read("src/main"), "one\ntwo\n");
        let _ = env
            .sbx(&["apply", "src", "run", "odd\nname", "sandbox.kdl"])
            .success()
            .stderr_has("--include-protected");
        assert_eq!(env.read("src/main"), "one\ntwo\nthree\n");
        assert_eq!(env.read("odd\nname"), "\u{1b}[2J\n");
        assert_eq!(env.read("sandbox.kdl"), manifest);
        let run = fs::metadata(env.repo().join("run")).unwrap();
        assert_eq!((run.permissions().mode() & 0o111, run.uid()), (0o111, env.uid()));
        assert!(!env.repo().join("made.log").exists());
        assert_eq!(env.sbx(&["diff", "--name-only"]).stdout(), "old\nsandbox.kdl\n");
        let _ = env.sbx(&["apply", "--include-protected", "sandbox.kdl"]).success();
        assert_eq!(env.read("sandbox.kdl"), format!("{manifest}evil\n"));
        env.write("sandbox.kdl", &manifest);

        // The copy stays as it is until a reset makes a new one.
        assert_eq!(env.up("cat src/main; ls").text().lines().last(), Some("src"));
        let _ = env.sbx(&["reset", "--force"]).success();
        assert_eq!(env.up("cat old").text(), "changed by the user");
        assert!(env.sbx(&["diff"]).stdout().is_empty());
    }
}

#[test]
fn an_apply_that_is_killed_leaves_whole_files_and_is_completed() {
    let env = in_clone_mode(Environment::unprivileged().with_busybox());
    env.write("file0", "old\n");
    env.up("set -e; for i in $(seq 0 400); do echo new $i > file$i; done").success();
    for pause in [5, 20, 60, 150] {
        let mut child = env.command(&["apply"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in fs::read_dir(env.repo()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if let Some(number) = name.strip_prefix("file") {
                let text = fs::read_to_string(entry.path()).unwrap();
                assert!(
                    text == format!("new {number}\n") || (number == "0" && text == "old\n"),
                    "{name}: {text}"
                );
            }
        }
    }
    let _ = env.sbx(&["apply"]).success();
    assert!((0..=400).all(|number| env.read(&format!("file{number}")) == format!("new {number}\n")));
    assert_eq!(fs::read_dir(env.repo()).unwrap().count(), 402, "nothing is left over");
    assert!(env.sbx(&["diff"]).stdout().is_empty());
}

#[test]
fn a_part_of_a_repository_can_be_copied_and_direct_mode_has_no_copy() {
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl");
    env.write("sub/a", "a\n");
    env.up("true").success();
    let _ = env.sbx(&["diff"]).exits(2).stderr_has("not on a copy");
    env.write("sandbox.kdl", format!("{manifest}workspace \"sub\" mode=\"clone\"\n"));
    assert_eq!(env.up("echo b >> a; ls; pwd").text(), format!("a\n{}/sub", env.repo().display()));
    let _ = env.sbx(&["apply"]).success();
    assert_eq!(env.read("sub/a"), "a\nb\n");
}

#[test]
fn commits_of_the_sandbox_become_a_branch() {
    let env = in_clone_mode(Environment::unprivileged().with_debian());
    env.write("a", "a\n");
    let repo = env.repo();
    git(&env, &repo, &["init", "-q", "-b", "main"]);
    git(&env, &repo, &["add", "."]);
    git(&env, &repo, &["commit", "-qm", "first"]);
    env.write("a", "user\n");
    let script = "set -e; git config user.name G; git config user.email g@example.com; git status --porcelain; \
         echo b > b; git add b; git commit -qm 'from inside'; echo c > c; git log --format=%s";
    assert_eq!(env.up(script).text(), " M a\nfrom inside\nfirst".trim_start());
    let _ = env.sbx(&["apply", "--branch", "agent"]).success().stderr_has("1 commit of the sandbox");
    env.give_tree(&repo);
    assert_eq!(git(&env, &repo, &["log", "--format=%s", "agent"]).lines().nth(1), Some("from inside"));
    assert_eq!(git(&env, &repo, &["ls-tree", "--name-only", "agent"]), "a\nb\nc\nsandbox.kdl\n");
    assert_eq!(git(&env, &repo, &["show", "agent:a"]), "a\n");
    assert_eq!(git(&env, &repo, &["status", "--porcelain"]), " M a\n");
    git(&env, &repo, &["fsck", "--strict"]);
    assert!(env.sbx(&["diff"]).stdout().is_empty());
}

#[test]
fn a_linked_working_tree_works_inside_and_the_others_are_safe() {
    let env = Environment::unprivileged().with_debian();
    let main = env.outside().join("main");
    fs::create_dir(&main).unwrap();
    fs::write(main.join("a"), "a\n").unwrap();
    git(&env, &main, &["init", "-q", "-b", "main"]);
    git(&env, &main, &["add", "."]);
    git(&env, &main, &["commit", "-qm", "first"]);
    let manifest = env.read("sandbox.kdl");
    fs::remove_file(env.repo().join("sandbox.kdl")).unwrap();
    git(&env, &main, &["worktree", "add", "-q", "-b", "topic", env.repo().to_str().unwrap()]);
    let other = env.outside().join("other");
    git(&env, &main, &["worktree", "add", "-q", "-b", "other", other.to_str().unwrap()]);
    env.give_tree(&env.repo());
    env.write("sandbox.kdl", manifest);

    // The repository is outside, so it is asked for.
    let _ = env.up("true").exits(2).stderr_has("read and write ~/main/.git");
    let inside = |script: &str| env.sbx(&["up", "--yes", "--", "sh", "-c", script]);
    let script =
        "set -e; export GIT_AUTHOR_NAME=G GIT_AUTHOR_EMAIL=g@e GIT_COMMITTER_NAME=G GIT_COMMITTER_EMAIL=g@e
        git status --porcelain; echo b > b; git add b; git commit -qm inside; git branch --show-current
        git worktree add -q -b third ./third; ls third; git log --format=%s";
    assert_eq!(inside(script).text(), "?? sandbox.kdl\ntopic\na\nb\ninside\nfirst");
    assert_eq!(git(&env, &env.repo(), &["log", "-1", "--format=%s", "topic"]), "inside\n");
    assert_eq!(git(&env, &env.repo().join("third"), &["status", "--porcelain"]), "");
    let before = (
        fs::read(main.join(".git/config")).unwrap(),
        fs::read(main.join(".git/worktrees/other/HEAD")).unwrap(),
    );
    let git_directory = main.join(".git");
    let git_directory = git_directory.to_str().unwrap();
    for attempt in [
        format!("echo x >> {git_directory}/config"),
        format!("echo x > {git_directory}/hooks/post-commit"),
        format!("mv {git_directory}/hooks {git_directory}/h"),
        format!("echo x > {git_directory}/HEAD"),
        format!("rm -f {git_directory}/index"),
        format!("echo /tmp > {git_directory}/worktrees/repo/commondir"),
        format!("echo x > {git_directory}/worktrees/other/commondir"),
        format!("rm -rf {git_directory}/worktrees/other"),
        "rm .git".to_owned(),
        format!("ls {git_directory}/../a {}/a", other.display()),
    ] {
        let outcome = env.up(&format!("sudo sh -c '{attempt}'"));
        assert_ne!(outcome.code, Some(0), "`{attempt}` was allowed");
    }
    let after = (
        fs::read(main.join(".git/config")).unwrap(),
        fs::read(main.join(".git/worktrees/other/HEAD")).unwrap(),
    );
    assert_eq!(before, after);

    // A copy of it stands alone.
    env.write("sandbox.kdl", format!("{}workspace \".\" mode=\"clone\"\n", env.read("sandbox.kdl")));
    let alone = format!(
        "git status --porcelain; git branch --show-current; ls -d {git_directory} 2>&1 | wc -l; test -d .git && echo own"
    );
    let text = env.up(&alone).text();
    assert!(text.ends_with("own") && text.contains("topic"), "{text}");
}
