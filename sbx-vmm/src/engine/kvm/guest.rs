//! A running guest: its threads, and the one thread that waits for the first of them to stop and ends the others.
//!
//! ```text
//! vcpu0 vcpu1 …  ──Stop──▶ kvm ──▶ stops every vCPU, then the devices; flushes the console; sets the end
//! kill()         ──────────▶
//! ```

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::bus::Bus;
use super::vcpu::{Signals, Stop, VcpuThread};
use crate::console::Log;
use crate::engine::RunningGuest;
use crate::engine::end::End;
use crate::gate::Gate;
use crate::machine::ExitReason;
use crate::seccomp::{self, Role};
use crate::sys::vm::Vm;
use crate::virtio::mmio::LoopHandle;

/// Stack of the thread in bytes.
const STACK_BYTES: usize = 128 * 1024;

/// What the thread that waits is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A processor stopped.
    Stopped(Stop),
    /// The host wants the end.
    Kill,
}

/// A guest that runs, or did.
pub(super) struct KvmGuest {
    events: Sender<Event>,
    gate: Gate,
    end: Arc<End>,
    keeper: Option<JoinHandle<()>>,
}

/// Everything that has to end with the guest.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) processors: Vec<VcpuThread>,
    /// KVM lets go of the events that interrupt the guest when its machine's descriptor is closed, though the processors
    /// run on.
    pub(super) vm: Vm,
    /// Tells the processors to begin and to stop.
    pub(super) signals: Signals,
    /// Stopped after the processors.
    pub(super) loops: Vec<LoopHandle>,
    pub(super) bus: Arc<Bus>,
    pub(super) console: crate::console::Tail,
    pub(super) log: Log,
}

impl KvmGuest {
    /// Watches over a guest whose processors wait for their gate.
    pub(super) fn watch(
        keeper: Keeper,
        events: Sender<Event>,
        received: Receiver<Event>,
    ) -> io::Result<Self> {
        let end = Arc::new(End::default());
        let set = Arc::clone(&end);
        let gate = keeper.signals.gate.clone();
        let thread = thread::Builder::new().name("kvm".to_owned()).stack_size(STACK_BYTES);
        let keeper = seccomp::spawn(thread, Role::Keeper, move || {
            let mut keeper = keeper;
            set.set(keeper.keep(&received));
            // To take a machine apart takes KVM milliseconds; whoever waits for the guest's end has it by now.
            drop(keeper);
        })?;
        Ok(Self { events, gate, end, keeper: Some(keeper) })
    }
}

impl RunningGuest for KvmGuest {
    fn begin(&self) {
        self.gate.open();
    }

    fn kill(&self) {
        // It fails if the guest has ended, which is what is wanted.
        let _ = self.events.send(Event::Kill);
    }

    fn wait(&self) -> ExitReason {
        self.end.wait()
    }
}

impl fmt::Debug for KvmGuest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KvmGuest").finish_non_exhaustive()
    }
}

impl Drop for KvmGuest {
    fn drop(&mut self) {
        self.kill();
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            tracing::error!("the thread that watches over the guest panicked");
        }
    }
}

impl Keeper {
    /// Waits for the end and cleans up.
    fn keep(&mut self, events: &Receiver<Event>) -> ExitReason {
        let event = events.recv().unwrap_or(Event::Kill);
        self.stop();
        self.bus.console().finish();
        match event {
            Event::Kill | Event::Stopped(Stop::Told) => ExitReason::Killed,
            Event::Stopped(Stop::Failed { what, details }) => {
                for line in details {
                    self.log.append(format!("{line}\n").as_bytes());
                }
                ExitReason::ProcessorFailed { what }
            }
            // A kernel that panics resets the machine, too.
            Event::Stopped(Stop::Reset) => match self.console.panic() {
                Some(message) => ExitReason::Panicked { message },
                None => ExitReason::PoweredOff,
            },
        }
    }

    /// Ends everything that runs, if it does.
    fn stop(&mut self) {
        self.signals.stopping.store(true, Ordering::SeqCst);
        // A guest may have to end before it has begun.
        self.signals.gate.open();
        for processor in &self.processors {
            processor.stop();
        }
        self.processors.drain(..).for_each(VcpuThread::join);
        self.loops.clear();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}
