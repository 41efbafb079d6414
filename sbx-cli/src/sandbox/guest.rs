//! The guest's control connection: its boot configuration, its clock, its power-off.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use sbx_proto::{BootConfig, CONTROL_PORT, ControlReply, ControlRequest, VERSION, read_frame, write_frame};
use sbx_vmm::{machine::VsockHandle, seccomp::Role};

use super::{
    owner::Event,
    plan::Clock,
    process::{Message, spawn},
};
use crate::{
    error::{CommandError, Result},
    ui::printable,
};

/// How often the guest's clock is set although nothing happened: an emulated clock drifts.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// How many warnings of a guest are passed on; a guest is not trusted to know when to stop.
const MAX_WARNINGS: usize = 20;

/// The host's end of the control connection, which is not there before the guest has dialled.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    connection: Arc<Mutex<Option<UnixStream>>>,
}

impl Guest {
    /// Waits for the guest to dial, on threads of its own, and tells `sender` how it goes.
    pub(super) fn start(
        vsock: &VsockHandle,
        boot: BootConfig,
        clock: Clock,
        sender: std::sync::mpsc::Sender<Message>,
    ) -> Result<Self> {
        let incoming = vsock.listen(CONTROL_PORT);
        let guest = Self { connection: Arc::new(Mutex::new(None)) };
        let conversing = guest.clone();
        spawn("guest", Role::Guest, move || {
            // The first connection is PID 1's; another would come from a process that plays it.
            let Ok(stream) = incoming.recv() else { return };
            drop(incoming);
            if let Err(error) = conversing.converse(stream, boot, clock, &sender) {
                let _ = sender.send(Message::GuestFailed(error));
            }
        })?;
        if clock == Clock::Host {
            let keeper = guest.clone();
            spawn("clock", Role::Guest, move || keeper.keep_time())?;
        }
        Ok(guest)
    }

    /// Sends `request` if the guest listens.
    pub(super) fn send(&self, request: &ControlRequest) {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = connection.as_mut()
            && write_frame(stream, request).is_err()
        {
            let _ = stream.shutdown(Shutdown::Both);
            *connection = None;
        }
    }

    fn converse(
        &self,
        mut stream: UnixStream,
        mut boot: BootConfig,
        clock: Clock,
        sender: &std::sync::mpsc::Sender<Message>,
    ) -> Result<()> {
        let broken = |error: sbx_proto::FrameError| {
            CommandError::failed("the guest's control connection broke")
                .with_source(io::Error::other(error.to_string()))
        };
        match read_frame(&mut stream).map_err(broken)? {
            ControlReply::Hello { version: VERSION } => {}
            ControlReply::Hello { version } => {
                return Err(CommandError::failed(format!(
                    "the guest speaks version {version} of the agent protocol, this sbx speaks {VERSION}"
                )));
            }
            _ => return Err(CommandError::failed("the guest did not say hello")),
        }
        boot.unix_nanoseconds = match clock {
            Clock::Host => unix_nanoseconds(),
            Clock::From(unix_nanoseconds) => unix_nanoseconds,
        };
        let asks_registries = boot.registries;
        write_frame(&mut stream, &ControlRequest::Boot(Box::new(boot))).map_err(broken)?;
        let mut reader = stream.try_clone().map_err(|source| broken(sbx_proto::FrameError::Io { source }))?;
        let (mut warnings, mut expects_registries) = (0, asks_registries);
        // The end of this connection is the end of the guest, which the machine reports with its reason.
        while let Ok(reply) = read_frame(&mut reader) {
            let message = match reply {
                // What is said later could come from a guest that a command has taken over.
                ControlReply::Registries { registries } => {
                    if !std::mem::take(&mut expects_registries) {
                        continue;
                    }
                    Message::Registries(registries)
                }
                ControlReply::Ready => {
                    expects_registries = false;
                    let clone =
                        stream.try_clone().map_err(|source| broken(sbx_proto::FrameError::Io { source }))?;
                    *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
                    Message::Event(Event::GuestReady)
                }
                ControlReply::Failed { stage, message } => Message::GuestFailed(
                    CommandError::failed(format!("the guest could not {}", printable(&stage)))
                        .with_source(io::Error::other(printable(&message))),
                ),
                ControlReply::Warning { message } => {
                    warnings += 1;
                    if warnings > MAX_WARNINGS {
                        continue;
                    }
                    Message::Warning(printable(&message))
                }
                ControlReply::Hello { .. } => continue,
            };
            if sender.send(message).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Sets the guest's clock whenever the host's was set (which is what a resume does), and now and then.
    fn keep_time(&self) {
        let Ok(timer) = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC) else {
            tracing::warn!("cannot watch the host's clock; the guest's may drift");
            return;
        };
        loop {
            let next = SystemTime::now()
                .checked_add(CLOCK_INTERVAL)
                .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
                .unwrap_or_default();
            let when = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec { tv_sec: i64::try_from(next.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 },
            };
            // CANCEL_ON_SET makes the read fail with ECANCELED at a discontinuous change: timerfd_create(2).
            let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
            if timerfd_settime(&timer, flags, &when).is_err() {
                return;
            }
            let mut expirations = [0_u8; 8];
            match rustix::io::read(&timer, &mut expirations) {
                Ok(_) | Err(rustix::io::Errno::CANCELED) => {
                    self.send(&ControlRequest::SetClock { unix_nanoseconds: unix_nanoseconds() });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// The host's clock, in nanoseconds since the Unix epoch.
fn unix_nanoseconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}
