//! Rings that no driver should make.

use super::*;

#[test]
fn a_device_with_a_broken_ring_needs_a_reset_and_works_after_it() {
    needs_kvm!();
    let mut steps = Steps::new();
    let (entropy, ring) = (device(&mut steps, ENTROPY), rings(1)[0]);
    entropy.start(&mut steps, &[ring]);
    // More chains than there can be, a head that is not in the table.
    for (interrupts, (index, head)) in [(1, (100, 0)), (2, (1, 77))] {
        steps.put(ring.available + 4, head, 2).put(ring.available + 2, index, 2);
        entropy.kick(&mut steps, 0);
        steps.interrupted(interrupts);
        entropy.acknowledge(&mut steps, 2);
        steps.expect(entropy.register(0x70), 15 | 64, 4);
        steps.put(ring.available + 2, 0, 2).put(ring.indexes()[1], 0, 2);
        entropy.start(&mut steps, &[ring]);
    }
    ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    ring.offer(&mut steps, 0, 0);
    entropy.kick(&mut steps, 0);
    steps.interrupted(3);
    ring.expect_used(&mut steps, 0, 0, 64);
    assert_eq!(said(steps.say("mended\n").reset()), ["mended"]);
}

#[test]
fn rings_outside_of_memory_need_a_reset() {
    needs_kvm!();
    let mut steps = Steps::new();
    let entropy = device(&mut steps, ENTROPY);
    for page in [0xd000_0000, 0xfee0_0000, 1 << 32, 1 << 60, 0xff_fc00] {
        entropy.negotiate(&mut steps, 1 << 32);
        entropy.set(&mut steps, 0x30, 0);
        entropy.set(&mut steps, 0x38, 16);
        for (offset, address) in [(0x80, page), (0x90, page + 0x400), (0xa0, page + 0x800)] {
            entropy.set(&mut steps, offset, address & 0xffff_ffff);
            entropy.set(&mut steps, offset + 4, address >> 32);
        }
        entropy.set(&mut steps, 0x44, 1);
        steps.expect(entropy.register(0x44), 0, 4).expect(entropy.register(0x70), 11 | 64, 4);
    }
    assert_eq!(said(steps.say("refused\n").reset()), ["refused"]);
}

#[test]
fn a_queue_that_moves_under_the_devices_feet_is_not_followed() {
    needs_kvm!();
    let mut steps = Steps::new();
    let entropy = device(&mut steps, ENTROPY);
    let rings = rings(2);
    let (ring, elsewhere) = (rings[0], rings[1]);
    entropy.start(&mut steps, &[ring]);
    for ring in [ring, elsewhere] {
        ring.describe(&mut steps, 0, BUFFERS, 64, WRITE);
    }
    elsewhere.offer(&mut steps, 0, 0);
    entropy.set(&mut steps, 0x90, elsewhere.available);
    steps.interrupted(1);
    entropy.acknowledge(&mut steps, 2);
    steps.expect(entropy.register(0x70), 15 | 64, 4);
    entropy.kick(&mut steps, 0);
    // It touches neither.
    steps.put(BUFFERS + 0x100, 0, 8);
    steps.expect(elsewhere.indexes()[1], 0, 2).expect(ring.indexes()[1], 0, 2);
    assert_eq!(said(steps.say("left alone\n").reset()), ["left alone"]);
}
