//! Protocols that say no name: SSH, PostgreSQL's, iperf3's. The name server's answer is what allows them.

use std::fs;

use sbx_tests::{Environment, lan::User};
use serde_json::Value;

use super::{Site, refused};

/// Bytes that iperf3 moves each way.
const BULK_BYTES: u64 = 16 << 20;

#[test]
fn git_clones_and_pushes_over_ssh() {
    let site = Site::new();
    let home = site.lan.home();
    site.lan.run(User::Ordinary, &home, &["git", "init", "-q", "--bare", "-b", "main", "hello.git"]);
    site.lan.run(User::Ordinary, &home, &["mkdir", "-m", "700", ".ssh"]);
    // No root in a user namespace may become others, so an ordinary user serves itself, at a port that it may have.
    site.lan.run(User::Ordinary, &home, &["dropbearkey", "-t", "ed25519", "-f", "hostkey"]);
    let words = ["/usr/sbin/dropbear", "-F", "-E", "-s", "-r", "hostkey", "-P", "pid", "-p", "2222"];
    let server = site.lan.start(User::Ordinary, &home, &words, "Not backgrounding");
    let env = site.sandbox("allow \"good.example\" port=2222");
    site.up(&env, "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; cp ~/.ssh/id_ed25519.pub key")
        .success();
    fs::write(home.join(".ssh/authorized_keys"), env.read("key")).unwrap();
    let outcome = env.sbx(&["exec", "--", "bash", "-c", OVER_SSH]);
    let expected = "the same\n\
        ssh: Could not resolve hostname evil.example: Name or service not known\n\
        ssh: connect to host 93.184.216.99 port 2222: Connection refused\n\
        ssh: connect to host good.example port 22: Connection refused\n";
    assert_eq!(outcome.stdout(), expected, "{outcome:?}\n{}", server.said());
    let expected = ["93.184.216.99:2222", "evil.example", "good.example:22"];
    assert_eq!(refused(&env), expected.map(str::to_owned).into());
    let head = fs::read_to_string(home.join("hello.git/refs/heads/main")).unwrap();
    assert_eq!(head, env.read("head"));
}

const OVER_SSH: &str = r#"
here=$PWD; cd ~
git config --global user.name agent; git config --global user.email agent@good.example
export GIT_SSH_COMMAND="ssh -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR"
says() { git ls-remote "$1" 2>&1 | head -n 1 | tr -d "\r"; }
git clone -q ssh://git@good.example:2222/~/hello.git 2>/dev/null && cd hello
seq 100000 > numbers && git add numbers && git commit -q -m numbers && git push -q origin HEAD:main
git clone -q ssh://git@good.example:2222/~/hello.git ../again && cmp numbers ../again/numbers && echo the same
git rev-parse HEAD > $here/head
says ssh://git@evil.example:2222/~/hello.git
says ssh://git@93.184.216.99:2222/~/hello.git
says git@good.example:hello.git
"#;

#[test]
fn psql_asks_a_database_and_iperf3_measures_both_directions() {
    let site = Site::new();
    let database = postgres(&site);
    let words = ["iperf3", "--server", "--forceflush"];
    let iperf = site.lan.start(User::Ordinary, &site.lan.home(), &words, "Server listening on 5201");
    let env = site.sandbox("allow \"good.example\" port=5432\nallow \"good.example\" port=5201");
    let outcome = site.up(&env, ASK);
    let expected = "100000|5000050000\n\
        could not translate host name \"evil.example\" to address: Name or service not known\n\
        Connection refused\n\
        iperf3: error - unable to connect to server: Name or service not known\n\
        iperf3: error - unable to connect to server: Connection refused\n";
    assert_eq!(outcome.stdout(), expected, "{outcome:?}\n{}{}", database.said(), iperf.said());
    for (file, sent) in [("to.json", "sum_sent"), ("from.json", "sum_received"), ("datagrams.json", "sum")] {
        let least = if sent == "sum" { 1 << 20 } else { BULK_BYTES };
        assert!(moved(&env, file, sent) >= least, "{file}: {}", env.read(file));
    }
    let expected = ["evil.example", "good.example:5202", "good.example:5433"];
    assert_eq!(refused(&env), expected.map(str::to_owned).into());
}

const ASK: &str = r#"
export PGPASSWORD=secret
ask() { psql -h "$1" -p "$2" -U agent -d postgres -tA -c "$3" 2>&1; }
ask good.example 5432 "create table numbers (n bigint)" > /dev/null
seq 100000 | ask good.example 5432 "copy numbers from stdin" > /dev/null
ask good.example 5432 "select count(*), sum(n) from numbers"
ask evil.example 5432 "select 1" | sed "s/.*: error: //"
ask good.example 5433 "select 1" | grep -o "Connection refused" | tail -n 1
iperf3 -c good.example -n 16M -J > to.json
iperf3 -c good.example -n 16M -R -J > from.json
iperf3 -c good.example -n 1M -b 100M -u -J > datagrams.json
measure() { iperf3 -c "$@" 2>&1 | head -n 1; }
measure evil.example
measure good.example -p 5202
"#;

/// How many bytes iperf3 says that it moved.
fn moved(env: &Environment, file: &str, sum: &str) -> u64 {
    let report: Value = serde_json::from_str(&env.read(file)).unwrap();
    report["end"][sum]["bytes"].as_u64().unwrap_or(0)
}

/// A database that knows the user `agent` by a password.
fn postgres(site: &Site) -> sbx_tests::lan::Program {
    let home = site.lan.home();
    let versions = fs::read_dir("/usr/lib/postgresql").expect("`apt-get install postgresql-15` installs it");
    let programs = versions.flatten().map(|version| version.path().join("bin")).max().unwrap();
    let program = |name: &str| programs.join(name).display().to_string();
    fs::write(home.join("password"), "secret\n").unwrap();
    let words = ["-D", "data", "-U", "agent", "--auth=scram-sha-256", "--pwfile=password", "--no-sync"];
    let initdb = program("initdb");
    site.lan.run(User::Ordinary, &home, &[&[initdb.as_str()], &words[..], &["--no-locale"]].concat());
    let rule = "host all all all scram-sha-256\n";
    site.lan.run(User::Ordinary, &home, &["sh", "-c", "echo \"$0\" > data/pg_hba.conf", rule]);
    let settings = ["-D", "data", "-k", "", "-c", "fsync=off", "-c", "listen_addresses=*"];
    let postgres = program("postgres");
    let words = [&[postgres.as_str()], &settings[..]].concat();
    site.lan.start(User::Ordinary, &home, &words, "ready to accept connections")
}
