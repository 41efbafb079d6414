//! Who has a port of the host.

use std::{fs, path::Path};

/// The program that listens on TCP `port`, as far as the kernel lets us look: `nginx (pid 812)`.
///
/// From `/proc/net/tcp` and `tcp6` (proc_net_tcp.rst) and the descriptors of processes.
pub(crate) fn of(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listener(&fs::read_to_string(table).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    // Besides processes, links to the reader's own are there.
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid: u32| (pid, Path::new("/proc").join(pid.to_string()))).find_map(|(pid, process)| {
        let name = holds(&process, &wanted).then(|| fs::read_to_string(process.join("comm")).ok())??;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// The inode of the socket that listens on `port` by a table of the kernel's.
fn listener(table: &str, port: u16) -> Option<u64> {
    /// State of a socket that listens (TCP_LISTEN in the kernel's tcp_states.h).
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let own = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        // Queues, timers, retransmissions, user and time-out stand before the inode.
        (own == port && state == LISTEN).then(|| fields.nth(5)?.parse().ok())?
    })
}

fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .flatten()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of(listener.local_addr().unwrap().port()).unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }
}
