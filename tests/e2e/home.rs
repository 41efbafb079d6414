//! The agent's home: kept when the rest is thrown away, and what is in it before the first start.

use std::{fs, process::Command};

use sbx_tests::{Environment, ImageBuilder};

/// A manifest for `image`.
fn manifest(image: &str) -> String {
    format!("agent \"shell\"\nimage \"{image}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n")
}

/// The status that `sbx ls` shows of the only sandbox.
fn status(env: &Environment) -> String {
    let list: Vec<serde_json::Value> = serde_json::from_str(&env.sbx(&["ls", "--json"]).text()).unwrap();
    list[0]["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_home_stays_when_the_rest_is_thrown_away() {
    let env = Environment::new().with_busybox();
    let script = "sudo sh -c 'echo old > /etc/old; mkdir /opt/d; echo x > /opt/d/x'; mkdir -p ~/.acme; echo kept > ~/.acme/login; rm -f ~/.profile";
    env.up(script).success();
    assert_eq!(env.up("cat /etc/old ~/.acme/login").text(), "old\nkept");
    env.sbx(&["reset", "--keep-home"]).success();
    assert_eq!(status(&env), "stopped");
    assert_eq!(env.up("ls -d /etc/old /opt/d 2>/dev/null; cat ~/.acme/login; id -un").text(), "kept\nagent");
    // Once, and not at every boot from then on.
    env.up("sudo sh -c 'echo new > /etc/new'").success();
    assert_eq!(env.up("cat /etc/new ~/.acme/login").text(), "new\nkept");
    env.sbx(&["reset"]).success();
    env.up("test ! -e ~/.acme && test ! -e /etc/new").success();
}

#[test]
fn a_home_goes_with_its_user_to_another_image() {
    let env = Environment::new();
    let first = env.image("first", ImageBuilder::busybox().env("IMAGE", "first"));
    let second = ImageBuilder::busybox()
        .env("IMAGE", "second")
        .file("home/agent/from-image", 0o644, b"image")
        .file("home/agent/both", 0o644, b"image");
    let second = env.image("second", second);
    env.write("sandbox.kdl", manifest(&first));
    env.up("echo mine > ~/mine; echo mine > ~/both; sudo touch /etc/old").success();
    env.write("sandbox.kdl", manifest(&second));
    env.up("true").exits(2).stderr_has("sbx reset --keep-home");
    env.sbx(&["reset", "--keep-home"]).success();
    // What a killed start leaves behind does not bind the disk to the old image again.
    let script = "echo $IMAGE; cat ~/mine ~/both ~/from-image; ls /etc/old 2>/dev/null; stat -c %U ~";
    assert_eq!(env.up(script).text(), "second\nmine\nmine\nimageagent");
    // And the image's part of the home can be changed and renamed like the rest.
    env.up("rm ~/from-image; mkdir ~/d; mv ~/both ~/d/").success();
    assert_eq!(env.up("cd; find . -type f | sort").text(), "./d/both\n./mine");
}

#[test]
fn what_was_thrown_away_is_gone_however_often_the_machine_is_killed() {
    let env = Environment::new().with_busybox();
    let script = "sudo sh -c 'for i in $(seq 200); do mkdir -p /var/many/$i/x; echo $i > /var/many/$i/x/f; done; echo old > /etc/old'; echo kept > ~/kept";
    env.up(script).success();
    env.sbx(&["reset", "--keep-home"]).success();
    for _ in 0..3 {
        // A machine that is killed as soon as it answers has not got far with the removal.
        env.sbx(&["up", "-d"]).success();
        env.sbx(&["stop", "-t", "0"]).success();
    }
    assert_eq!(env.up("ls -d /etc/old /var/many 2>/dev/null; cat ~/kept").text(), "kept");
}

#[test]
fn files_of_an_agent_are_in_the_home_until_somebody_changes_them() {
    let env = Environment::new().with_busybox();
    let manifest = env.read("sandbox.kdl");
    let agent = r##"
        agent "acme" {
            command "cat" ".acme/settings.json"
            file ".acme/settings.json" content=#"{"trusted": ["{workspace}"]}"#
        }
        "##;
    env.write("sandbox.kdl", manifest.replace("agent \"shell\"\n", agent));
    let placed = env.exec("cat ~/.acme/settings.json; stat -c '%U %a' ~/.acme ~/.acme/settings.json").text();
    let expected = format!("{{\"trusted\": [\"{}\"]}}\nagent 755\nagent 600", env.repo().display());
    assert_eq!(placed, expected);
    env.exec("echo changed > ~/.acme/settings.json").success();
    assert_eq!(env.exec("cat ~/.acme/settings.json").text(), "changed");
    env.sbx(&["reset", "--keep-home"]).success();
    assert_eq!(env.exec("cat ~/.acme/settings.json").text(), "changed");
}

#[test]
fn git_knows_the_user_and_nothing_else_of_the_hosts_configuration() {
    let env = Environment::new().with_busybox();
    let include = env.outside().join("more");
    fs::write(&include, "[user]\n\temail = ann@example.com\n").unwrap();
    let global = format!(
        "[user]\n\tname = Ann \\\"O\\\" Neil\n\temail = wrong@example.com\n\tsigningkey = ABCD\n[include]\n\tpath = {}\n[core]\n\tpager = secret-pager\n[commit]\n\tgpgsign = true\n",
        include.display()
    );
    fs::write(env.outside().join(".gitconfig"), global).unwrap();
    // A repository's own configuration could make a git of the host run programs.
    let ran = env.outside().join("ran");
    fs::create_dir(env.repo().join(".git")).unwrap();
    env.write(".git/HEAD", "ref: refs/heads/main\n");
    env.write(
        ".git/config",
        format!(
            "[core]\n\tfsmonitor = touch {0}\n\tsshCommand = touch {0}\n[user]\n\tname = Repo\n",
            ran.display()
        ),
    );
    env.up("cat $GIT_CONFIG_SYSTEM > inside; env | grep ^GIT_CONFIG | sort").success();
    assert!(!ran.exists());

    let inside = env.read("inside");
    assert!(
        !inside.contains("pager") && !inside.contains("ABCD") && !inside.contains("gpgsign = true"),
        "{inside}"
    );
    let git = |key: &str| {
        let mut git = Command::new("git");
        git.args(["config", "--file"]).arg(env.repo().join("inside")).args(["--get", key]).current_dir("/");
        String::from_utf8(git.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(git("user.name"), "Ann \"O\" Neil");
    assert_eq!(git("user.email"), "ann@example.com");
    // The rest goes before that, as on the host: the repository's configuration, and the agent's own.
    assert_eq!(env.up("echo $GIT_CONFIG_KEY_0=$GIT_CONFIG_VALUE_0").text(), "commit.gpgSign=false");
}

#[test]
fn a_commit_is_the_users_and_is_not_signed() {
    let env = Environment::new().with_debian();
    let global = "[user]\n\tname = Ann\n\temail = ann@example.com\n[commit]\n\tgpgsign = true\n";
    fs::write(env.outside().join(".gitconfig"), global).unwrap();
    let script = "cd ~ && git init -q x && cd x && git config commit.gpgsign true && git commit -q --allow-empty -m x \
        && git log --format='%an <%ae> %G?' && git config user.email other@example.com \
        && git commit -q --allow-empty -m y && git log -1 --format=%ae";
    assert_eq!(env.up(script).text(), "Ann <ann@example.com> N\nother@example.com");
}
