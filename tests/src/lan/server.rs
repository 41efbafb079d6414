//! The helper: sets its namespaces up, and does what it is told.

use std::{
    ffi::OsString,
    io::{self, BufRead, Write},
    net::IpAddr,
    path::Path,
    process::Command,
    sync::Arc,
};

use super::{
    names::Names,
    protocol::{Reply, Request},
    services::Services,
    visitor,
};

/// Runs the helper until its standard input ends.
///
/// # Errors
/// If the namespaces cannot be set up, or nobody listens any more.
///
/// # Panics
/// If it was not started by [`Lan`](super::Lan).
pub fn serve() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().expect("a directory");
    let name_server = arguments.next().expect("the address of the name server");
    set_up(Path::new(&directory), arguments.chain([name_server.clone()]))?;
    let names = Arc::new(Names::default());
    let name_server = name_server.to_str().and_then(|text| text.parse::<IpAddr>().ok()).expect("an address");
    names.listen(name_server)?;
    let services = Services::default();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?)?;
        let reply = act(&names, &services, request).unwrap_or_else(|error| Reply::Failed(error.to_string()));
        writeln!(output, "{}", serde_json::to_string(&reply)?)?;
    }
    Ok(())
}

fn act(names: &Names, services: &Services, request: Request) -> io::Result<Reply> {
    Ok(match request {
        Request::Ready => Reply::Done,
        Request::Serve { address, service } => Reply::Listening(services.start(address, service)?),
        Request::Name { name, kind, records } => {
            names.set(&name, &kind, &records)?;
            Reply::Done
        }
        Request::Questions => Reply::Questions(names.questions()),
        Request::Disturb { path, disturbance } => {
            services.disturbances().set(Some((path, disturbance)));
            Reply::Done
        }
        Request::Mend => {
            services.disturbances().set(None);
            Reply::Done
        }
        Request::AwaitDisturbed => {
            services.disturbances().wait()?;
            Reply::Done
        }
        Request::Served { path } => Reply::Count(services.disturbances().served(&path)),
        Request::Visits { address } => Reply::Count(services.visits(address)),
        Request::Visit { address, visit } => Reply::Seen(visitor::visit(address, &visit)?),
    })
}

/// Gives the loopback interface the addresses, and the namespace its resolver configuration and its users.
fn set_up(directory: &Path, addresses: impl Iterator<Item = OsString>) -> io::Result<()> {
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    for address in addresses {
        // Without `nodad` an IPv6 address cannot be bound at once.
        let six = address.to_str().is_some_and(|text| text.contains(':'));
        let flags: &[&str] = if six { &["nodad"] } else { &[] };
        run(Command::new("ip").args(["address", "add"]).arg(address).args(["dev", "lo"]).args(flags))?;
    }
    for name in ["resolv.conf", "hosts", "passwd"] {
        let target = Path::new("/etc").join(name);
        run(Command::new("mount").arg("--bind").arg(directory.join(name)).arg(target))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> io::Result<()> {
    if command.status()?.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} failed"))) }
}
