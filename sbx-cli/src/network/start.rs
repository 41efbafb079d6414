//! The gateway put together in the sandbox process, before that is confined.

use std::{io, time::Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use sbx_net::{
    dns::{Configuration, Resolver},
    driver::{Driver, PortError},
    ethernet,
    gateway::{Gateway, Settings},
};
use sbx_vmm::virtio::net::Link;

use super::{
    cable::Cable,
    capture::Capture,
    holder,
    host_files::HostFiles,
    journal::{Entry, Journal},
    plan::NetworkPlan,
    rulebook::Rulebook,
};
use crate::error::{CommandError, Result};

/// Descriptors for the largest number of connections, with everything else.
const WANTED_DESCRIPTORS: u64 = 16_384;

/// A gateway that waits for its machine.
pub(crate) struct Started {
    /// For the network card.
    pub(crate) link: Box<dyn Link>,
    /// For everybody else.
    pub(crate) rulebook: Rulebook,
}

/// Makes the gateway of `plan`, which passes decisions to `tell`.
///
/// # Errors
/// If a published port is taken, or the capture cannot be written.
pub(crate) fn start(plan: &NetworkPlan, tell: impl FnMut(Entry) + Send + 'static) -> Result<Started> {
    raise_descriptors();
    let link = ethernet::Link::default();
    let mut host = HostFiles::new();
    let (upstream, hosts) = host.read();
    let resolver = Resolver::new(Configuration {
        gateway: vec![link.gateway_ipv4.into(), link.gateway_ipv6.into()],
        hosts,
        upstream,
        random: Box::new(random),
    });
    let seed = [random(), random(), random(), random()];
    let seed = seed.into_iter().fold(0, |seed, part| (seed << 16) | u64::from(part));
    let settings = Settings { link, host_services: plan.host_services.clone(), seed };
    let gateway = Gateway::new(settings, plan.policy(), resolver, Instant::now());
    let (mut driver, controller) =
        Driver::new(gateway, Box::new(Journal::new(tell)), Box::new(move || host.changed()))
            .map_err(|error| CommandError::failed("cannot make the network").with_source(error))?;
    let mut proxies = plan.proxies.clone();
    super::proxies::resolve(&mut proxies);
    driver.use_proxies(proxies);
    for port in &plan.published {
        driver.publish(port.guest, port.host, None).map_err(|error| port_failed(error, port.guest))?;
    }
    let capture = match &plan.capture {
        Some(path) => Some(Capture::create(path).map_err(|error| {
            CommandError::failed(format!("cannot write {}", path.display())).with_source(error)
        })?),
        None => None,
    };
    Ok(Started { link: Box::new(Cable::new(driver, capture)), rulebook: Rulebook::new(plan, controller) })
}

/// A published port that the host does not give, with who has it.
pub(crate) fn port_failed(error: PortError, guest: u16) -> CommandError {
    let PortError::Bind { port, source } = error else {
        return CommandError::failed("cannot publish a port").with_source(error);
    };
    if source.kind() == io::ErrorKind::AddrInUse {
        return port_taken(port)
            .with_hint(format!("publish {guest} as another port: publish {guest} as={}", other(port)));
    }
    CommandError::failed(format!("cannot publish port {guest} as {port}")).with_source(source)
}

/// A port of the host that somebody has, with who that is as far as the caller may know.
pub(crate) fn port_taken(port: u16) -> CommandError {
    let holder = holder::of(port).map(|holder| format!(" by {holder}")).unwrap_or_default();
    CommandError::failed(format!("port {port} of the host is taken{holder}"))
}

/// A port to propose instead of one that is taken.
fn other(port: u16) -> u16 {
    port.checked_add(10_000).unwrap_or_else(|| port.saturating_sub(10_000))
}

/// A number that nobody can guess.
fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without the kernel's generator there is no sandbox either.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

/// Each connection is a descriptor, and shells allow few by default.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(WANTED_DESCRIPTORS, |maximum| maximum.min(WANTED_DESCRIPTORS));
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
