//! What a processor meets outside of memory: ports and the windows of the devices.
//!
//! | port | what |
//! |---|---|
//! | 0x3f8 to 0x3ff | console |
//! | 0x64 | keyboard controller, of which there is only the reset of the machine |
//! | 0x20, 0x40, 0x61, 0xa0 … | interrupt controllers and timer: KVM's own, never seen here |
//!
//! What is not there reads as all ones and takes writes without effect, as on a PC.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::serial::Console;
use crate::arch::DEVICE_WINDOWS;
use crate::virtio::mmio::{MmioDevice, WINDOW_BYTES};

/// Ports of the console.
const CONSOLE: u16 = 0x3f8;
const CONSOLE_PORTS: u16 = 8;

/// Status and command port of the keyboard controller, and the command that pulses the reset line of the processor.
const KEYBOARD: u16 = 0x64;
const RESET: u8 = 0xfe;

/// What the processor is to do after a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Go on.
    GoOn,
    /// The guest resets its machine.
    Reset,
}

/// All of it, for all processors.
#[derive(Debug)]
pub(super) struct Bus {
    console: Mutex<Console>,
    devices: Vec<Arc<MmioDevice>>,
}

impl Bus {
    pub(super) fn new(console: Console, devices: Vec<Arc<MmioDevice>>) -> Self {
        Self { console: Mutex::new(console), devices }
    }

    /// The console. Its state is consistent between any two of its statements.
    pub(super) fn console(&self) -> MutexGuard<'_, Console> {
        self.console.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A processor reads `data` from `port`.
    pub(super) fn read_port(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if let Some(register) = console_register(port) {
            let mut console = self.console();
            data.iter_mut().for_each(|byte| *byte = console.read(register));
        } else if port == KEYBOARD {
            // Nothing typed, ready for a command.
            data.fill(0);
        }
    }

    /// A processor writes `data` to `port`; more than one byte comes from a string instruction.
    pub(super) fn write_port(&self, port: u16, data: &[u8]) -> Verdict {
        if let Some(register) = console_register(port) {
            let mut console = self.console();
            data.iter().for_each(|byte| console.write(register, *byte));
        } else if port == KEYBOARD && data.contains(&RESET) {
            return Verdict::Reset;
        }
        Verdict::GoOn
    }

    /// A processor reads `data` where there is no memory.
    pub(super) fn read_memory(&self, address: u64, data: &mut [u8]) {
        match self.device(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A processor writes `data` where there is no memory.
    pub(super) fn write_memory(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.device(address) {
            device.write(offset, data);
        }
    }

    /// The device at `address`, and how far in its window that is.
    fn device(&self, address: u64) -> Option<(&MmioDevice, u64)> {
        let offset = address.checked_sub(DEVICE_WINDOWS)?;
        let number = usize::try_from(offset / WINDOW_BYTES).ok()?;
        Some((self.devices.get(number)?, offset % WINDOW_BYTES))
    }
}

/// The register of the console that `port` is.
fn console_register(port: u16) -> Option<u8> {
    let register = port.checked_sub(CONSOLE).filter(|register| *register < CONSOLE_PORTS)?;
    u8::try_from(register).ok()
}
