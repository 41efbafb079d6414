//! Standard input, output and errors, byte for byte.

use std::{
    fs::{self, File},
    io::{Read, Write},
    process::Stdio,
};

use sbx_tests::Environment;

const GIB: u64 = 1 << 30;

/// Bytes that repeat nowhere nearby, so that a lost or swapped chunk shows.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_gigabyte_goes_through_unchanged() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let (big, copy) = (env.outside().join("big"), env.outside().join("copy"));
    let block = pattern(1 << 20);
    let mut file = File::create(&big).unwrap();
    for index in 0..GIB / (1 << 20) {
        file.write_all(&index.to_le_bytes()).unwrap();
        file.write_all(&block[8..]).unwrap();
    }
    drop(file);
    let status = env
        .command(&["exec", "--", "cat"])
        .stdin(File::open(&big).unwrap())
        .stdout(File::create(&copy).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs::metadata(&copy).unwrap().len(), GIB);
    let (mut left, mut right) = (File::open(&big).unwrap(), File::open(&copy).unwrap());
    let (mut expected, mut got) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for index in 0..GIB / (1 << 20) {
        left.read_exact(&mut expected).unwrap();
        right.read_exact(&mut got).unwrap();
        assert!(expected == got, "megabyte {index} differs");
    }
}

#[test]
fn streams_do_not_mix_and_end_when_they_end() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let input = pattern(3_000_000);
    let outcome = env.sbx_with_input(&["exec", "--", "sh", "-c", "cat; echo done >&2"], &input).success();
    assert!(outcome.stdout_bytes == input);
    assert_eq!(outcome.stderr, "done\n");
}

#[test]
fn a_command_that_does_not_read_holds_nothing_up() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let input = pattern(10_000_000);
    assert_eq!(env.sbx_with_input(&["exec", "--", "sh", "-c", "exit 7"], &input).code, Some(7));
    let outcome = env.sbx_with_input(&["exec", "--", "head", "-c", "10"], &input).success();
    assert_eq!(outcome.stdout_bytes, input[..10]);
}

#[test]
fn a_reader_that_leaves_ends_the_command() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut child =
        env.command(&["exec", "--", "yes"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut some = [0_u8; 4];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(&some, b"y\ny\n");
    assert_eq!(child.wait().unwrap().code(), Some(141), "as if SIGPIPE had ended it here");
}

#[test]
fn signals_reach_the_command() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    let mut child = env
        .command(&[
            "exec",
            "--",
            "sh",
            "-c",
            "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 1; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut ready = [0_u8; 6];
    stdout.read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got it\n", Some(3)));
}

#[test]
fn many_commands_run_side_by_side() {
    let env = Environment::new().with_busybox();
    env.sbx(&["up", "-d"]).success();
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let env = &env;
            scope.spawn(move || {
                let input = pattern(200_000 + usize::from(number));
                let outcome = env.sbx_with_input(&["exec", "--", "cat"], &input).success();
                assert!(outcome.stdout_bytes == input, "command {number}");
            });
        }
    });
}
