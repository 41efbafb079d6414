//! A fake guest driver: builds chains in anonymous memory and lends the queues to a device as a transport would.
//!
//! ```text
//! 0x10000 × queue number   descriptor table, available ring, used ring of each queue
//! 0x100000 …               buffers, handed out one behind the other
//! ```

use std::num::Wrapping;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::virtio::{DeviceError, VirtioDevice, Virtqueue};

#[cfg(target_arch = "x86_64")]
pub mod bare_metal;
mod link;
#[cfg(test)]
pub(crate) mod watched;

pub use link::{FakeLink, FarEnd, LinkEvent};

/// Size of the fake guest's memory in bytes.
pub const MEMORY_BYTES: u64 = 64 << 20;

/// Where the buffers begin.
const BUFFERS: u64 = 0x10_0000;

/// Bytes set apart for each queue.
const QUEUE_BYTES: u64 = 0x1_0000;

/// Descriptor flags (virtio 1.2, 2.7.5).
pub const NEXT: u16 = 1;
/// The device writes to this buffer.
pub const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// A buffer of a chain: address and length in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Buffer {
    /// The device reads it.
    Readable(u64, u32),
    /// The device writes it.
    Writable(u64, u32),
}

/// The driver's side of one queue.
#[derive(Debug)]
struct Ring {
    queue: Queue,
    base: u64,
    size: u16,
    next_descriptor: u16,
    available: Wrapping<u16>,
    used: Wrapping<u16>,
}

impl Ring {
    fn available_ring(&self) -> u64 {
        self.base + u64::from(self.size) * 16
    }

    fn used_ring(&self) -> u64 {
        (self.available_ring() + 6 + u64::from(self.size) * 2).next_multiple_of(4)
    }
}

/// A guest with memory and queues but no program.
#[derive(Debug)]
pub struct Guest {
    memory: GuestMemoryMmap,
    rings: Vec<Ring>,
    next_buffer: u64,
}

impl Guest {
    /// A guest whose queues have these sizes.
    ///
    /// # Panics
    /// If a size is not a power of two up to 2048, or there are more than 15 queues.
    #[must_use]
    pub fn new(sizes: &[u16]) -> Self {
        let range = (GuestAddress(0), usize::try_from(MEMORY_BYTES).unwrap());
        Self::with_memory(GuestMemoryMmap::from_ranges(&[range]).unwrap(), sizes)
    }

    /// The same in `memory`, `MEMORY_BYTES` from address 0.
    ///
    /// # Panics
    /// As `new`.
    #[must_use]
    pub fn with_memory(memory: GuestMemoryMmap, sizes: &[u16]) -> Self {
        assert!(sizes.len() < 16);
        let rings = (1..)
            .zip(sizes)
            .map(|(number, size)| {
                assert!(*size <= 2048);
                let mut ring = Ring {
                    queue: Queue::new(*size).unwrap(),
                    base: number * QUEUE_BYTES,
                    size: *size,
                    next_descriptor: 0,
                    available: Wrapping(0),
                    used: Wrapping(0),
                };
                let (available, used) = (ring.available_ring(), ring.used_ring());
                ring.queue.try_set_desc_table_address(GuestAddress(ring.base)).unwrap();
                ring.queue.try_set_avail_ring_address(GuestAddress(available)).unwrap();
                ring.queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
                ring.queue.set_event_idx(true);
                ring.queue.set_ready(true);
                ring
            })
            .collect();
        Self { memory, rings, next_buffer: BUFFERS }
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Where the descriptor table, the available ring and the used ring of `queue` are.
    #[must_use]
    pub fn addresses(&self, queue: usize) -> [u64; 3] {
        let ring = &self.rings[queue];
        [ring.base, ring.available_ring(), ring.used_ring()]
    }

    /// Sets `length` bytes of zeroed memory apart and returns their address.
    pub fn allocate(&mut self, length: u32) -> u64 {
        let address = self.next_buffer;
        self.next_buffer = (address + u64::from(length)).next_multiple_of(16);
        assert!(self.next_buffer <= MEMORY_BYTES, "the fake guest is out of memory");
        address
    }

    /// Copies `bytes` into memory of their own and returns their address.
    pub fn store(&mut self, bytes: &[u8]) -> u64 {
        let address = self.allocate(u32::try_from(bytes.len()).unwrap());
        self.write(address, bytes);
        address
    }

    /// Writes `bytes` at `address`.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    /// The `length` bytes at `address`.
    #[must_use]
    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Writes one descriptor of `queue`'s table, whatever it may say.
    pub fn set_descriptor(
        &mut self,
        queue: usize,
        index: u16,
        address: u64,
        length: u32,
        flags: u16,
        next: u16,
    ) {
        self.write(self.rings[queue].base + u64::from(index) * 16, &descriptor(address, length, flags, next));
    }

    /// Makes the chain that begins with `head` available, whatever it may be.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = ring.available_ring() + 4 + u64::from(ring.available.0 % ring.size) * 2;
        ring.available += 1;
        let (index, place) = (ring.available.0, ring.available_ring() + 2);
        self.write(slot, &head.to_le_bytes());
        self.write(place, &index.to_le_bytes());
    }

    /// Says that chains up to `index` are available, whether they are or not.
    pub fn set_available_index(&mut self, queue: usize, index: u16) {
        self.rings[queue].available = Wrapping(index);
        self.write(self.rings[queue].available_ring() + 2, &index.to_le_bytes());
    }

    /// Makes a chain of `buffers` available and returns its head.
    pub fn add(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let indexes: Vec<u16> = buffers.iter().map(|_| self.next_descriptor(queue)).collect();
        for (position, buffer) in buffers.iter().enumerate() {
            let (address, length, flags) = parts(*buffer);
            let next = indexes.get(position + 1);
            let flags = if next.is_some() { flags | NEXT } else { flags };
            self.set_descriptor(queue, indexes[position], address, length, flags, next.copied().unwrap_or(0));
        }
        self.offer(queue, indexes[0]);
        indexes[0]
    }

    /// The same by way of an indirect table.
    pub fn add_indirect(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let mut table = Vec::new();
        for (position, buffer) in (1_u16..).zip(buffers) {
            let (address, length, flags) = parts(*buffer);
            let last = usize::from(position) == buffers.len();
            table.extend(descriptor(address, length, if last { flags } else { flags | NEXT }, position));
        }
        let place = self.store(&table);
        let index = self.next_descriptor(queue);
        self.set_descriptor(queue, index, place, u32::try_from(table.len()).unwrap(), INDIRECT, 0);
        self.offer(queue, index);
        index
    }

    /// Makes a chain of writable buffers available that bites its own tail, and returns its head.
    pub fn add_loop(&mut self, queue: usize) -> u16 {
        let (first, second) = (self.next_descriptor(queue), self.next_descriptor(queue));
        let place = self.allocate(16);
        self.set_descriptor(queue, first, place, 16, NEXT | WRITE, second);
        self.set_descriptor(queue, second, place, 16, NEXT | WRITE, first);
        self.offer(queue, first);
        first
    }

    /// The next chain that the device has given back: its head, and how many bytes it says it has written.
    pub fn take_used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let place = ring.used_ring();
        let index: u16 = self.memory.read_obj(GuestAddress(place + 2)).unwrap();
        if index == ring.used.0 {
            return None;
        }
        let slot = GuestAddress(place + 4 + u64::from(ring.used.0 % ring.size) * 8);
        ring.used += 1;
        // The next one shall cause an interrupt again (virtio 1.2, 2.7.7.1).
        let event = ring.available_ring() + 4 + u64::from(ring.size) * 2;
        self.memory.write_obj(ring.used.0, GuestAddress(event)).unwrap();
        let [head, length]: [u32; 2] = self.memory.read_obj(slot).unwrap();
        Some((u16::try_from(head).unwrap(), length))
    }

    /// Whether the device asked to be kicked when one more chain is made available (virtio 1.2, 2.7.10).
    #[must_use]
    pub fn wants_kick(&self, queue: usize) -> bool {
        let ring = &self.rings[queue];
        let event = ring.used_ring() + 4 + u64::from(ring.size) * 8;
        self.memory.read_obj::<u16>(GuestAddress(event)).unwrap() == ring.available.0
    }

    /// Kicks `queue` and calls the device until it has nothing left to do.
    ///
    /// # Errors
    /// What the device says.
    pub fn kick(&mut self, device: &mut dyn VirtioDevice, queue: usize) -> Result<(), DeviceError> {
        let mut due = vec![queue];
        while let Some(queue) = due.pop() {
            due.extend(self.lend(|queues| device.handle_queue(queue, queues))?);
        }
        Ok(())
    }

    /// Tells the device that its `wake_fd` is readable.
    ///
    /// # Errors
    /// What the device says.
    pub fn wake(&mut self, device: &mut dyn VirtioDevice) -> Result<(), DeviceError> {
        let due = self.lend(|queues| device.handle_wake(queues))?;
        due.into_iter().try_for_each(|queue| self.kick(device, queue))
    }

    /// Lends the queues for one call and returns those that are not finished.
    fn lend(
        &mut self,
        call: impl FnOnce(&mut [Virtqueue<'_>]) -> Result<(), DeviceError>,
    ) -> Result<Vec<usize>, DeviceError> {
        let memory = &self.memory;
        let mut queues: Vec<Virtqueue<'_>> = self
            .rings
            .iter_mut()
            .enumerate()
            .map(|(index, ring)| Virtqueue::new(index, &mut ring.queue, memory))
            .collect();
        call(&mut queues)?;
        Ok(queues
            .iter()
            .enumerate()
            .filter(|(_, queue)| queue.is_unfinished())
            .map(|(index, _)| index)
            .collect())
    }

    fn next_descriptor(&mut self, queue: usize) -> u16 {
        let ring = &mut self.rings[queue];
        let index = ring.next_descriptor;
        ring.next_descriptor = (index + 1) % ring.size;
        index
    }
}

fn parts(buffer: Buffer) -> (u64, u32, u16) {
    match buffer {
        Buffer::Readable(address, length) => (address, length, 0),
        Buffer::Writable(address, length) => (address, length, WRITE),
    }
}

fn descriptor(address: u64, length: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

/// Plays a driver that does whatever `bytes` say, for fuzz targets. Ends at the first error, as a transport would.
///
/// ```text
/// 0 queue index flags:u16 next:u8 address:u32 length:u16   write a descriptor
/// 1 queue head                                             offer a chain
/// 2 place:u16 length:u8 bytes                              write to the buffers
/// 3 queue index:u16                                        claim that many chains
/// 4 queue                                                  kick
/// 5                                                        wake the device
/// 6 queue                                                  take a used chain
/// ```
pub fn misbehave(guest: &mut Guest, device: &mut dyn VirtioDevice, bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let queues = guest.rings.len();
    let mut run = || -> Option<()> {
        let mut byte = || bytes.next();
        match byte()? % 7 {
            0 => {
                let (queue, index) = (usize::from(byte()?) % queues, byte()?);
                let flags = u16::from_le_bytes([byte()?, byte()?]);
                let next = byte()?;
                let address = u32::from_le_bytes([byte()?, byte()?, byte()?, byte()?]);
                let length = u16::from_le_bytes([byte()?, byte()?]);
                // Mostly in the buffers, sometimes anywhere; mostly short, sometimes huge.
                let far = flags & 0x100 != 0;
                let address =
                    if far { u64::from(address) << 16 } else { BUFFERS + u64::from(address % 0x4000) };
                let length = if flags & 0x200 != 0 { u32::from(length) << 16 } else { u32::from(length) };
                let index = u16::from(index) % guest.rings[queue].size;
                guest.set_descriptor(queue, index, address, length, flags & 7, u16::from(next));
            }
            1 => {
                let queue = usize::from(byte()?) % queues;
                guest.offer(queue, u16::from(byte()?));
            }
            2 => {
                let place = BUFFERS + u64::from(u16::from_le_bytes([byte()?, byte()?]) % 0x4000);
                let length = byte()?;
                let content: Vec<u8> = (0..length).map_while(|_| byte()).collect();
                guest.write(place, &content);
            }
            3 => {
                let queue = usize::from(byte()?) % queues;
                guest.set_available_index(queue, u16::from_le_bytes([byte()?, byte()?]));
            }
            4 => guest.kick(device, usize::from(byte()?) % queues).ok()?,
            5 => guest.wake(device).ok()?,
            _ => {
                guest.take_used(usize::from(byte()?) % queues);
            }
        }
        Some(())
    };
    while run().is_some() {}
    device.reset();
}
