//! Connections do not survive a restore, and the guest learns that before there are new ones.

use super::*;
use crate::virtio::{DeviceState, RestoreError};

const EVENTS: usize = 2;

impl Driver {
    /// The same guest with a new device, which goes on from the saved state by way of bytes; all queues are looked at,
    /// as a transport does.
    fn resumed(self) -> Self {
        let bytes = postcard::to_stdvec(&self.device.save()).unwrap();
        let state: DeviceState = postcard::from_bytes(&bytes).unwrap();
        let (mut device, handle) = VsockDevice::new(CID).unwrap();
        device.activate(0);
        device.restore(state).unwrap();
        let mut driver = Self { device, handle, ..self };
        (0..3).for_each(|queue| driver.guest.kick(&mut driver.device, queue).unwrap());
        driver
    }

    /// Offers a buffer of `length` bytes for events.
    fn offer_event(&mut self, length: u32) -> (u16, u64) {
        let place = self.guest.store(&vec![0xee; length as usize]);
        (self.guest.add(EVENTS, &[Buffer::Writable(place, length)]), place)
    }

    fn can_connect(&mut self) -> bool {
        self.handle.connect(60, UnixStream::pair().unwrap().0).is_ok()
    }
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone() {
    let mut driver = Driver::new(4);
    let (ours, port) = driver.connected();
    let listener = driver.handle.listen(99);
    driver.send(Operation::Request, 99, 1000, 0, &[]);
    let accepted = listener.recv().unwrap();
    assert_eq!(driver.operations(), [(Operation::Response, 0)]);
    let buffers = [0; 8].map(|_| driver.offer_event(4));

    let mut driver = driver.resumed();
    assert!(read_all(&ours).is_empty() && read_all(&accepted).is_empty(), "the host's ends are closed");
    assert_eq!(driver.guest.take_used(EVENTS), Some((buffers[0].0, 4)));
    assert_eq!(driver.guest.read(buffers[0].1, 4), [0; 4]);
    assert_eq!(driver.guest.take_used(EVENTS), None, "once");

    // Until the guest has dealt with it, there are no connections, neither its nor the host's.
    assert!(!driver.can_connect());
    let listener = driver.handle.listen(99);
    driver.send(Operation::Request, 99, 1001, 0, &[]);
    driver.send(Operation::Data, port, 52, 0, b"lost");
    assert_eq!(driver.operations(), [(Operation::Reset, 0); 2]);
    assert!(listener.try_recv().is_err());

    // It wants to be kicked by the next buffer, although there are others.
    let [_, _, used] = driver.guest.addresses(EVENTS);
    assert_eq!(driver.guest.read(used + 4 + 16 * 8, 2), [8, 0]);
    driver.guest.offer(EVENTS, buffers[0].0);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    let (_ours, next) = driver.connected();
    assert_ne!(next, port, "the guest may still have the socket that was the other end");
    driver.send(Operation::Request, 99, 1002, 0, &[]);
    assert_eq!(driver.operations(), [(Operation::Response, 0)]);
    assert_eq!(driver.guest.take_used(EVENTS), None);
}

#[test]
fn the_event_waits_for_a_buffer_that_can_hold_it() {
    let mut driver = Driver::new(4).resumed();
    assert!(!driver.can_connect());
    let short = driver.offer_event(3);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    assert_eq!(driver.guest.take_used(EVENTS), Some((short.0, 0)));
    let place = driver.guest.allocate(8);
    let readable = driver.guest.add(EVENTS, &[Buffer::Readable(place, 8)]);
    let (head, place) = driver.offer_event(8);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    assert_eq!(driver.guest.take_used(EVENTS), Some((readable, 0)));
    assert_eq!(driver.guest.take_used(EVENTS), Some((head, 4)));
    assert_eq!(driver.guest.read(place, 8), [0, 0, 0, 0, 0xee, 0xee, 0xee, 0xee]);
    assert!(!driver.can_connect());

    // Saved once more before the guest has dealt with it, it is told once more.
    let mut driver = driver.resumed();
    assert!(!driver.can_connect());
    let (head, _) = driver.offer_event(4);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    assert_eq!(driver.guest.take_used(EVENTS), Some((head, 4)));
    driver.offer_event(4);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    assert!(driver.can_connect());
}

#[test]
fn a_reset_by_the_guest_settles_it() {
    let mut driver = Driver::new(4).resumed();
    driver.device.reset();
    driver.device.activate(0);
    assert!(driver.can_connect());
    driver.offer_event(4);
    driver.guest.kick(&mut driver.device, EVENTS).unwrap();
    assert_eq!(driver.guest.take_used(EVENTS), None);
}

#[test]
fn a_state_of_another_guest_is_refused() {
    let (other, _handle) = VsockDevice::new(4).unwrap();
    let mut device = Driver::new(0).device;
    let error = device.restore(other.save()).unwrap_err();
    assert!(matches!(error, RestoreError::ContextId { expected: 4, found: 3 }), "{error}");
    let error = device.restore(DeviceState::Rng).unwrap_err();
    assert_eq!(error.to_string(), "the state is that of a rng device, and this is a vsock device");
    for port in [0, 0x3fff_ffff, u32::MAX] {
        let mut state = serde_json::to_value(device.save()).unwrap();
        state["Vsock"]["next_port"] = port.into();
        let error = device.restore(serde_json::from_value(state).unwrap()).unwrap_err();
        assert!(matches!(error, RestoreError::Malformed { device: "vsock", .. }), "{error}");
    }
}
