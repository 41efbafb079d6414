//! PID 1 and agent of the guest: from the kernel's first process to commands that run, and back down.
//!
//! The kernel starts this binary as `/init` of an initramfs that holds nothing else. It never exits and never
//! panics: either would be the kernel's end. Called by any other process it is [`sudo`].

#![deny(unsafe_code)]

mod accounts;
mod agent;
mod capture;
mod certificates;
mod clock;
mod console;
mod control;
mod discard;
mod exec;
mod files;
mod home;
mod identity;
mod input;
mod limits;
mod mount;
mod network;
mod outbox;
mod overlay;
mod program;
mod reap;
mod registries;
mod scratch;
mod session;
mod setup;
mod shares;
mod shutdown;
mod stages;
mod sudo;
#[allow(unsafe_code)]
mod sys;
mod terminal;
mod user;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sbx_proto::Home as HomePlace;
use sbx_proto::{BootConfig, ControlReply, ControlRequest, SETUP_WORKSPACE};

use crate::agent::Agent;
use crate::capture::Changes;
use crate::console::chain;
use crate::control::{Control, ControlError};
use crate::discard::Removal;
use crate::exec::Defaults;
use crate::home::Home;
use crate::reap::Reaper;
use crate::scratch::{Growth, Scratch};
use crate::setup::SetupDirectories;
use crate::shares::Shares;
use crate::stages::{Failure, Stages};

/// Word of the kernel command line that asks for the times of the boot on the console.
const DEBUG: &str = "sbx.debug";

/// Grace for processes when the host is gone: enough to write a file, and nobody waits for more.
const ORPHANED_GRACE: Duration = Duration::from_secs(1);

/// How long the host may take to read why the boot failed.
const FAREWELL: Duration = Duration::from_secs(1);

/// What runs once the machine is up.
struct Machine {
    scratch: Scratch,
    home: Option<Home>,
    growth: Option<Growth>,
    removal: Option<Removal>,
    reaper: Arc<Reaper>,
    agent: Arc<Agent>,
}

fn main() -> ExitCode {
    if sudo::is_called() {
        return sudo::run();
    }
    let mut stages = Stages::new();
    let connected = stages
        .take("find the devices", mount::devices)
        .and_then(|()| stages.take("dial the host", Control::dial));
    match connected {
        Ok(control) => live(control, stages),
        Err(failure) => console::say(&format!("cannot {}: {}", failure.stage, failure.message)),
    }
    shutdown::end_machine()
}

/// Everything between the greeting and the reset.
fn live(mut control: Control, mut stages: Stages) {
    let machine = match boot(&mut control, &mut stages) {
        Ok(machine) => machine,
        Err(Failure { stage, message }) => {
            console::say(&format!("cannot {stage}: {message}"));
            control.send_last(&ControlReply::Failed { stage, message }, FAREWELL);
            rustix::fs::sync();
            return;
        }
    };
    if mount::kernel_was_told(DEBUG) {
        stages.report();
    }
    let grace = obey(&mut control);
    shutdown::end_processes(&machine.reaper, &machine.agent, grace);
    if let Some(growth) = machine.growth {
        growth.stop();
    }
    if let Some(removal) = machine.removal {
        removal.stop();
    }
    shutdown::close_disk(&machine.scratch, machine.home.as_ref());
}

/// Makes the machine that the host describes.
fn boot(control: &mut Control, stages: &mut Stages) -> Result<Machine, Failure> {
    // The host reads the greeting and answers meanwhile.
    stages.take("mount the image", overlay::mount_image)?;
    let binary = stages.take("take hold of sudo", sudo::Binary::take)?;
    let config = stages.take("hear from the host", || control.boot_config())?;
    stages.take("set the clock", || clock::set(config.unix_nanoseconds))?;
    if config.registries {
        stages.take("find the registries", || report_registries(control, &config))?;
    }

    let scratch = stages.take("mount the scratch disk", Scratch::mount)?;
    let home = make_root(stages, &scratch, &config)?;
    let shares = if config.mounts.is_empty() {
        None
    } else {
        Some(stages.take("mount the shares", || Shares::mount(&config.shares_tag))?)
    };
    stages.take("enter the root file system", overlay::enter_root)?;
    stages.take("mount the system's file systems", mount::system)?;
    if let Some(home) = &home {
        stages.take("mount the home", || home.attach(home_of(&config)))?;
    }
    limits::set_kernel_settings();

    let loopback = stages.take("bring up the loopback interface", network::bring_up_loopback);
    let names = stages.take("name the machine", || network::set_names(Path::new("/etc"), &config.hostname));
    let network = config.network.as_ref().map_or(Ok(()), |network| {
        stages.take("set up the network", || network::set_up(network))?;
        stages.take("name the resolver", || network::set_resolver(Path::new("/etc"), network))
    });
    for failure in [loopback, names, network].into_iter().filter_map(Result::err) {
        warn(control, &failure);
    }
    stages.take("make the user", || user::ensure(Path::new("/etc"), &config.user))?;
    stages.take("install sudo", || binary.install(&config.user))?;
    let certificates = stages.take("place the host's certificates", || {
        certificates::install(Path::new("/"), &config.certificates)
    });
    let setup = SetupDirectories::hold(Path::new(SETUP_WORKSPACE), &config.setup_directories);
    if let Some(shares) = &shares {
        stages.take("mount the host's directories", || attach(shares, &config))?;
    }
    bind_setup(control, setup, &config);
    let placed = stages.take("place the host's files", || files::place(&config.files, &config.user));
    if let Err(failure) = placed {
        warn(control, &failure);
    }
    let reaper = stages.take("start the reaper", Reaper::start)?;
    let mut defaults = Defaults::of(&config);
    match certificates {
        Ok(variables) => defaults.add_environment(variables),
        Err(failure) => warn(control, &failure),
    }
    let changes = stages.take("take hold of the scratch disk", || scratch.root().map(Changes::new))?;
    let agent = Agent::new(defaults, Arc::clone(&reaper), Some(changes));
    stages.take("listen for the host", || agent.listen())?;
    stages.take("report to the host", || control.send(&ControlReply::Ready))?;
    // Only now: the first command should not have to share the processor with it.
    let growth = match stages.take("grow the scratch disk", || scratch.start_to_grow()) {
        Ok(growth) => Some(growth),
        Err(failure) => {
            warn(control, &failure);
            None
        }
    };
    let removal = match stages.take("remove what was thrown away", || scratch.start_to_remove()) {
        Ok(removal) => removal,
        Err(failure) => {
            warn(control, &failure);
            None
        }
    };
    Ok(Machine { scratch, home, growth, removal, reaper, agent })
}

/// Puts the root file system together, and the home beside it if it is one of its own. The home is taken out of what is thrown
/// away.
fn make_root(stages: &mut Stages, scratch: &Scratch, config: &BootConfig) -> Result<Option<Home>, Failure> {
    let (disk, image) = (Path::new(scratch::MOUNTED), Path::new(overlay::IMAGE));
    let own_home = config.home == HomePlace::OfItsOwn;
    if own_home {
        stages.take("make room for the home", || home::lay_out(disk, image, &config.user))?;
    }
    if config.fresh_root {
        stages.take("throw the old files away", || discard::set_aside(disk))?;
    }
    stages.take("lay out the scratch disk", || scratch.lay_out(image))?;
    stages.take("mount the root file system", overlay::mount_root)?;
    if !own_home {
        return Ok(None);
    }
    stages.take("make the home", || Home::mount(disk, image, home_of(config))).map(Some)
}

/// The path of the user's home.
fn home_of(config: &BootConfig) -> &Path {
    Path::new(OsStr::from_bytes(&config.user.home))
}

/// Tells the host which registries the image names: from the image itself, which nothing that ran in the sandbox has changed.
fn report_registries(control: &mut Control, config: &BootConfig) -> Result<(), ControlError> {
    let registries = registries::find(Path::new(overlay::IMAGE), &config.user.home, &config.environment);
    control.send(&ControlReply::Registries { registries })
}

/// Binds the shares, outer directories before those inside them, whatever the host's order.
fn attach(shares: &Shares, config: &BootConfig) -> Result<(), mount::MountError> {
    let mut mounts: Vec<_> = config.mounts.iter().collect();
    mounts.sort_by_key(|mount| mount.at.iter().filter(|byte| **byte == b'/').count());
    mounts.into_iter().try_for_each(|mount| shares.attach(mount, &config.user))
}

/// Puts what setup commands made into the workspace; commands run without what cannot be put there.
fn bind_setup(control: &mut Control, setup: SetupDirectories<'_>, config: &BootConfig) {
    let workspace = Path::new(OsStr::from_bytes(&config.directory));
    for failure in setup.bind(workspace, &config.user) {
        warn(control, &Failure { stage: "set the workspace up".to_owned(), message: chain(&failure) });
    }
}

fn warn(control: &mut Control, failure: &Failure) {
    let message = format!("cannot {}: {}", failure.stage, failure.message);
    console::say(&message);
    // If the host is gone, whatever comes next will find out.
    let _ = control.send(&ControlReply::Warning { message });
}

/// Does what the host says until it says power off, or nothing any more. Returns the grace for processes.
fn obey(control: &mut Control) -> Duration {
    loop {
        match control.next() {
            Ok(ControlRequest::SetClock { unix_nanoseconds }) => {
                if let Err(error) = clock::set(unix_nanoseconds) {
                    console::say(&format!("cannot set the clock: {error}"));
                }
            }
            Ok(ControlRequest::PowerOff { grace_milliseconds }) => {
                return Duration::from_millis(u64::from(grace_milliseconds));
            }
            Ok(ControlRequest::Boot(_)) => console::say("the host wants to boot a machine that is up"),
            Err(error) => {
                console::say(&format!("powering off: {}", chain(&error)));
                return ORPHANED_GRACE;
            }
        }
    }
}
