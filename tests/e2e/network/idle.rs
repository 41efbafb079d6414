//! A sandbox that has nothing to do costs nothing.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use sbx_tests::{Lan, lan::Service};

use super::{GOOD, sandbox};
use crate::isolation;

/// The guest is quiet for a while and says a word, until there was nothing in between but that; a kernel has things to do soon after its
/// start.
const BEATS: usize = 8;

/// A clock's tick of processor time (proc(5), utime), which the word itself may take.
const MOST_TICKS: u64 = 1;

/// How often the network card's thread has gone to sleep, and the processor time that the process has taken.
#[derive(Debug)]
struct Spent {
    wakes: u64,
    ticks: u64,
}

impl Spent {
    fn of(process: &Path) -> Self {
        let threads = fs::read_dir(process.join("task")).unwrap().flatten().map(|thread| thread.path());
        let read = |thread: &Path, file: &str| fs::read_to_string(thread.join(file)).unwrap_or_default();
        let is_card = |thread: &PathBuf| read(thread, "comm").trim() == "virtio-net";
        let card =
            threads.filter(|thread| is_card(thread)).map(|thread| read(&thread, "status")).next().unwrap();
        let wakes = card.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        let stat = read(process, "stat");
        // Behind the name, which may have anything in it, utime and stime are the fields 14 and 15, and the state is the third.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Self { wakes: wakes.trim().parse().unwrap(), ticks }
    }
}

#[test]
fn a_sandbox_that_is_idle_with_a_connection_open_uses_no_processor() {
    let lan = Lan::new(&[GOOD]);
    lan.serve("93.184.216.34:7", Service::Echo);
    lan.name("good.example", "A", &[GOOD]);
    let env = sandbox(&lan, "allow \"good.example\"");
    env.sbx(&["up", "--yes", "-d"]).success();
    let script = "mkfifo ~/in; nc good.example 7 < ~/in > ~/out & exec 3> ~/in
        echo hello >&3; until grep -q hello ~/out; do sleep 0.1; done
        while read line; do sleep 3; echo beat; done
        echo still >&3; until grep -q still ~/out; do sleep 0.1; done; echo open";
    let mut guest = env.command(&["exec", "--", "sh", "-c", script]);
    let mut guest = guest.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = guest.stdin.take().unwrap();
    let mut lines = BufReader::new(guest.stdout.take().unwrap()).lines().map(Result::unwrap);
    let process = isolation::process_of(&env, "sandbox-process");
    let mut seen = Vec::new();
    let is_quiet = |pair: &[Spent]| match pair {
        [before, after] => before.wakes == after.wakes && after.ticks - before.ticks <= MOST_TICKS,
        _ => false,
    };
    while !seen.windows(2).any(is_quiet) {
        assert!(seen.len() < BEATS, "{seen:?}");
        input.write_all(b"\n").unwrap();
        assert_eq!(lines.next().as_deref(), Some("beat"));
        seen.push(Spent::of(&process));
    }
    drop(input);
    assert_eq!(lines.collect::<Vec<_>>(), ["open"]);
    assert!(guest.wait().unwrap().success());
}
