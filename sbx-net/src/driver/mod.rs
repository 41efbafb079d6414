//! The sockets: the one place where the gateway's wishes become system calls.
//!
//! Everything happens in the thread of the network device, when it calls: the descriptor that it waits for is an epoll of the sockets, a
//! timer and an eventfd for commands of other threads. So a byte of the guest is in a socket of the host without another thread having
//! been woken.
//!
//! ```text
//! transmit ─▶ Gateway::handle_frame ┐
//! epoll ─▶ Gateway::handle_*        ├─▶ poll_action ─▶ connect, transfer, close ─▶ frames
//! timer ─▶ Gateway::handle_timeout  ┘
//! ```

mod command;
mod connect;
mod datagrams;
mod listener;
mod lookup;
mod proxy;
mod socket;
mod timer;
mod transfer;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use slotmap::{SecondaryMap, SlotMap, new_key_type};

use crate::action::Action;
use crate::dns::ResolvConf;
use crate::event::Event;
use crate::flow::{ExchangeId, FlowId};
use crate::gateway::Gateway;
use crate::name::Name;
use crate::packet::Checksum;
use crate::proxy::Proxies;

use command::Inbox;
pub use command::{Controller, PortError, PublishedPort};
use datagrams::DatagramSocket;
use listener::Listener;
use lookup::Lookup;
use socket::HostSocket;
use timer::Timer;

/// Events of the epoll that are taken at a time.
const EVENTS: usize = 256;

/// Frames of the guest after which its connections are served, so that their buffers do not run full one after the other.
const FRAMES_PER_ROUND: u32 = 32;

new_key_type! {
    /// Names something that the epoll waits for.
    struct SourceId;
}

/// What the epoll waits for.
#[derive(Debug)]
enum Source {
    Timer,
    Commands,
    Listener(Listener),
    Flow(FlowId),
    Exchange(ExchangeId),
    Lookup(Lookup),
}

/// Who hears of what was decided. Called in the thread of the network device, so it should not take long.
pub trait Observer: Send {
    /// Something was decided.
    fn observe(&mut self, event: Event);
}

/// How the host finds names, if that has changed since the last time. Called before name servers are asked, in the thread of the
/// network device.
pub type HostNames = Box<dyn FnMut() -> Option<(ResolvConf, Vec<(IpAddr, Name)>)> + Send>;

/// The gateway with its sockets.
pub struct Driver {
    gateway: Gateway,
    observer: Box<dyn Observer>,
    host_names: HostNames,
    /// When the host was asked last whether it finds names in another way.
    host_asked: Instant,
    epoll: OwnedFd,
    timer: Timer,
    inbox: Inbox,
    sources: SlotMap<SourceId, Source>,
    sockets: SecondaryMap<FlowId, HostSocket>,
    exchanges: SecondaryMap<ExchangeId, DatagramSocket>,
    /// What connections to others go through.
    proxies: Proxies,
    /// When proxies have had their time, the earliest first.
    deadlines: VecDeque<(Instant, FlowId)>,
    /// Frames since the connections were served.
    frames: u32,
    /// Room for datagrams of the host.
    datagram: Vec<u8>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Driver").field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}

impl Driver {
    /// Gives `gateway` its sockets, and whoever has the controller a way to it.
    ///
    /// # Errors
    /// If the host gives no descriptors.
    pub fn new(
        gateway: Gateway,
        observer: Box<dyn Observer>,
        host_names: HostNames,
    ) -> io::Result<(Self, Controller)> {
        let (inbox, controller) = command::channel()?;
        let mut driver = Self {
            gateway,
            observer,
            host_names,
            host_asked: Instant::now(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            timer: Timer::new()?,
            inbox,
            sources: SlotMap::with_key(),
            sockets: SecondaryMap::new(),
            exchanges: SecondaryMap::new(),
            proxies: Proxies::default(),
            deadlines: VecDeque::new(),
            frames: 0,
            datagram: vec![0; usize::from(u16::MAX)],
        };
        let timer = driver.sources.insert(Source::Timer);
        driver.watch(driver.timer.as_fd(), timer, EventFlags::IN)?;
        let commands = driver.sources.insert(Source::Commands);
        driver.watch(driver.inbox.as_fd(), commands, EventFlags::IN)?;
        Ok((driver, controller))
    }

    /// Has connections to others made through these proxies.
    pub fn use_proxies(&mut self, proxies: Proxies) {
        self.gateway.use_proxies(proxies.clone());
        self.proxies = proxies;
    }

    /// Becomes readable when [`poll`](Self::poll) has something to do.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// The guest's driver is there. `offload`: it takes frames without TCP checksums.
    pub fn start(&mut self, offload: bool) {
        self.gateway.start(Instant::now(), offload);
    }

    /// The guest's driver is gone.
    pub fn stop(&mut self) {
        self.gateway.stop();
        self.work(Instant::now());
    }

    /// A frame of the guest.
    pub fn transmit(&mut self, frame: &[u8], checksum: Checksum) {
        let now = Instant::now();
        self.gateway.handle_frame(now, frame, checksum);
        self.frames = self.frames.saturating_add(1);
        if self.frames >= FRAMES_PER_ROUND {
            self.work(now);
        }
    }

    /// Does what there is to do.
    pub fn poll(&mut self) {
        let now = Instant::now();
        self.take_events(now);
        if self.gateway.poll_timeout().is_some_and(|at| at <= now) {
            self.gateway.handle_timeout(now);
        }
        self.expire_negotiations(now);
        self.work(now);
    }

    /// The next frame for the guest; the same until [`pop_frame`](Self::pop_frame).
    #[must_use]
    pub fn frame(&self) -> Option<&[u8]> {
        self.gateway.frame()
    }

    /// Takes the next frame out.
    pub fn pop_frame(&mut self) {
        self.gateway.pop_frame();
        if self.gateway.wants_to_send() {
            self.work(Instant::now());
        }
    }

    /// Carries out what the gateway wants, until it wants nothing.
    fn work(&mut self, now: Instant) {
        self.frames = 0;
        loop {
            while let Some(action) = self.gateway.poll_action() {
                match action {
                    Action::Connect { flow, address, name } => {
                        self.connect_outside(now, flow, address, name.as_ref());
                    }
                    Action::Transfer(flow) => self.transfer(now, flow),
                    Action::Close { flow, reset } => self.close(flow, reset),
                    Action::Datagram { exchange, address, data } => {
                        self.send_datagram(exchange, address, &data);
                    }
                    Action::EndExchange(exchange) => self.end_exchange(exchange),
                    Action::Ask { server, bytes, token, over_tcp } => {
                        self.ask(now, &server, &bytes, token, over_tcp);
                    }
                }
            }
            if !self.gateway.wants_to_send() {
                break;
            }
            self.gateway.send_stalled(now);
        }
        while let Some(event) = self.gateway.poll_event() {
            self.observer.observe(event);
        }
        let deadline = self.gateway.poll_timeout().into_iter().chain(self.negotiation_deadline()).min();
        self.timer.set(deadline, now);
    }

    /// Looks at all descriptors that have something.
    fn take_events(&mut self, now: Instant) {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        // What does not fit now is there at the next call.
        let Ok(count) = epoll::wait(&self.epoll, &mut events, Some(&rustix::time::Timespec::default()))
        else {
            return;
        };
        for event in events.iter().take(count) {
            let (data, flags) = (event.data, event.flags);
            self.handle_source(now, slotmap::KeyData::from_ffi(data.u64()).into(), flags);
        }
    }

    fn handle_source(&mut self, now: Instant, id: SourceId, flags: EventFlags) {
        match self.sources.get(id) {
            Some(Source::Timer) => self.timer.clear(),
            Some(Source::Commands) => self.take_commands(now),
            Some(Source::Listener(_)) => self.accept(now, id),
            Some(Source::Flow(flow)) => self.handle_socket(now, *flow, flags),
            Some(Source::Exchange(exchange)) => self.receive_datagrams(now, *exchange),
            Some(Source::Lookup(_)) => self.handle_lookup(now, id, flags),
            None => {}
        }
    }

    fn watch(&self, descriptor: BorrowedFd<'_>, source: SourceId, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(slotmap::Key::data(&source).as_ffi());
        Ok(epoll::add(&self.epoll, descriptor, data, flags)?)
    }
}

#[cfg(test)]
mod tests;
