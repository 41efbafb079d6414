//! Resource limits of commands, and kernel settings of the machine.

use std::fs;

use rustix::process::{Resource, Rlimit};

/// Open files that a program may ask for, which is also the kernel's own bound (fs.nr_open).
const MAX_OPEN_FILES: u64 = 1024 * 1024;

/// Open files that a program gets without asking: many for builds and servers, few enough that programs that close
/// every possible descriptor before they exec stay quick.
const OPEN_FILES: u64 = 65_536;

/// Kernel settings that differ from the kernel's defaults, and why.
const SETTINGS: [(&str, &str); 5] = [
    // `ping` for everybody, without a setuid program.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // Development servers on port 80 and 443. Nothing outside sees them unless the manifest says so.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // File watchers of editors, bundlers and test runners watch whole trees.
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
    // The console is a log for people: errors only.
    ("kernel/printk", "4 4 1 7"),
];

/// The limits that every command starts with.
pub(crate) fn of_commands() -> Vec<(Resource, Rlimit)> {
    vec![
        (Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum: Some(MAX_OPEN_FILES) }),
        // No core files in the workspace unless somebody asks.
        (Resource::Core, Rlimit { current: Some(0), maximum: None }),
    ]
}

/// Sets the kernel settings; one that this kernel does not have is left out.
pub(crate) fn set_kernel_settings() {
    for (name, value) in SETTINGS {
        let _ = fs::write(format!("/proc/sys/{name}"), value);
    }
}
