//! The smallest machines of the kvm engine, for measuring: `bare_metal port`, `bare_metal devices`, `bare_metal read COUNT`,
//! `bare_metal empty`.
//!
//! `port` has 512 MiB and one processor, whose only work is to write one port; `devices` is the same with all devices, which
//! nobody uses. `read` reads COUNT random blocks of 4 KiB from the scratch disk, one after the other, and polls for each.
//! `empty` only makes a machine without processors and closes it. When a guest has ended, a line says so: what comes after it is
//! KVM taking the machine apart. With `hold` as the last argument the machine does not end
//! by itself, so that its process can be looked at.

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (words, hold) = match words.as_slice() {
        [rest @ .., "hold"] => (rest, true),
        rest => (rest, false),
    };
    let steps = match words {
        ["empty"] => return machines::empty(),
        ["port" | "devices"] => machines::port(hold),
        ["read", count] => match count.parse() {
            Ok(count) => machines::read(count),
            Err(_) => return ExitCode::from(2),
        },
        _ => return ExitCode::from(2),
    };
    machines::run(&steps, words != ["port"])
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    ExitCode::from(2)
}

#[cfg(target_arch = "x86_64")]
mod machines {
    use std::io::Write;
    use std::process::ExitCode;

    use sbx_vmm::engine::Engine;
    use sbx_vmm::machine::{ExitReason, Machine};
    use sbx_vmm::testing::bare_metal::{MEMORY, Ring, Steps, machine, make_and_close, run_without_devices};

    const SCRATCH: u64 = 1;
    const SCRATCH_BYTES: u64 = 64 << 20;
    const MEMORY_MIB: u32 = 512;

    /// Sectors of the scratch disk at which blocks of 4 KiB begin: all of its 17 bits but the lowest three.
    const SECTORS: u64 = SCRATCH_BYTES / 512 - 8;

    /// Nothing runs.
    pub(super) fn empty() -> ExitCode {
        if make_and_close().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// One port is written.
    pub(super) fn port(hold: bool) -> Steps {
        let mut steps = Steps::new();
        if hold {
            steps.sleep()
        } else {
            steps.reset()
        };
        steps
    }

    /// `count` blocks are read.
    pub(super) fn read(count: u64) -> Steps {
        let (ring, request, counter) = (Ring::at(MEMORY), MEMORY + 0x1_0000, MEMORY + 0x2_0000);
        let disk = Steps::device(SCRATCH);
        let mut steps = Steps::new();
        disk.start(&mut steps, &[ring]);
        ring.describe(&mut steps, 0, request, 16, 1);
        ring.describe(&mut steps, 1, request + 0x1000, 4096, 3);
        ring.describe(&mut steps, 2, request + 0x10, 1, 2);
        let [available, used] = ring.indexes();
        steps.put(counter, count, 8);
        let before = steps.count();
        steps.random(request + 8, SECTORS).add(available, 1);
        disk.kick(&mut steps, 0);
        steps.until_same(available, used).expect(request + 0x10, 0, 1);
        let repeated = steps.count() - before;
        steps.repeat(counter, repeated).reset();
        steps
    }

    /// Nobody has to listen.
    fn tell_end() {
        let _ = std::io::stdout().write_all(b"ended\n");
    }

    /// Runs the machine to its end.
    pub(super) fn run(steps: &Steps, devices: bool) -> ExitCode {
        let directory = std::env::temp_dir().join(format!("sbx-bare-metal-{}", std::process::id()));
        if std::fs::create_dir(&directory).is_err() {
            return ExitCode::FAILURE;
        }
        let mut config = machine(&directory, steps, SCRATCH_BYTES);
        config.memory_mib = MEMORY_MIB;
        let ended = if devices {
            Machine::start(&config, &Engine::Kvm, None).map(|machine| {
                let reason = machine.wait().reason;
                tell_end();
                reason
            })
        } else {
            run_without_devices(&config, tell_end)
        };
        let _ = std::fs::remove_dir_all(&directory);
        match ended {
            Ok(ExitReason::PoweredOff) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}
