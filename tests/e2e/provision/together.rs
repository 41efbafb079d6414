//! Two that want the same at the same time.

use std::{fs, process::Command};

use rustix::process::Signal;
use sbx_tests::{Environment, ImageBuilder};

use super::{layers, leftovers, run::Run};

const WAITING: &str = "another sbx is making this; waiting";

/// Two checkouts of one repository, in one home.
struct Checkouts {
    env: Environment,
    image: String,
}

impl Checkouts {
    fn new() -> Self {
        let env = Environment::new();
        let image = env.image("busybox", ImageBuilder::busybox());
        fs::create_dir(env.outside().join("other")).unwrap();
        Self { env, image }
    }

    fn manifest(&self, setup: &str) {
        let text = format!(
            "agent \"shell\"\nimage \"{}\"\nresources cpus=1 memory=\"256MiB\" disk=\"1GiB\"\n{setup}\n",
            self.image
        );
        self.env.write("sandbox.kdl", &text);
        fs::write(self.env.outside().join("other/sandbox.kdl"), text).unwrap();
    }

    fn lock(&self) -> Command {
        self.env.command(&["lock", "--yes"])
    }

    fn lock_other(&self) -> Command {
        let mut command = self.lock();
        command.current_dir(self.env.outside().join("other"));
        command
    }

    fn locks(&self) -> [String; 2] {
        let other = fs::read_to_string(self.env.outside().join("other/sandbox.lock")).unwrap();
        [self.env.read("sandbox.lock"), other]
    }
}

#[test]
fn of_two_that_want_the_same_step_one_makes_it_and_one_waits() {
    let checkouts = Checkouts::new();
    checkouts.manifest("setup \"echo first; head -c 8 /dev/urandom > ~/random\"");
    let mut one = Run::start(checkouts.lock());
    one.says("   first");
    one.signal(Signal::STOP);
    let mut other = Run::start(checkouts.lock_other());
    other.says(WAITING);
    one.signal(Signal::CONT);
    one.success();
    // It has made nothing, and has the random bytes of the other.
    assert!(!other.success().has_said("running"));
    let [lock, other] = checkouts.locks();
    assert_eq!(lock, other);
    assert_eq!(layers(&checkouts.env).len(), 1);

    // One that waits for somebody who is killed makes it itself, and one that is interrupted ends at once.
    checkouts.manifest("setup \"echo second\"");
    let mut one = Run::start(checkouts.lock());
    one.says("   second");
    one.signal(Signal::STOP);
    let mut interrupted = Run::start(checkouts.lock_other());
    interrupted.says(WAITING);
    interrupted.signal(Signal::INT);
    interrupted.ends();
    let mut other = Run::start(checkouts.lock_other());
    other.says(WAITING);
    one.kill();
    other.says("   second");
    other.success();
    assert_eq!((layers(&checkouts.env).len(), leftovers(&checkouts.env)), (2, 0));
}
