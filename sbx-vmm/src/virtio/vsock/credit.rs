//! Flow control: how much each end may still send (virtio 1.2, 5.10.6.3).
//!
//! Counters run from the beginning of the connection and wrap around at 2^32, so that only their differences mean
//! anything. The guest's are whatever it says; a difference that cannot be gives no credit.

/// Bytes of a connection that the host keeps while the program behind the stream does not read: what Linux offers by
/// default, enough for several of its largest packets (64 KiB).
pub(super) const BUFFER_BYTES: u32 = 256 << 10;

/// How much the guest takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SendCredit {
    allocation: u32,
    forwarded: u32,
    sent: u32,
}

impl SendCredit {
    /// The guest told its buffer's size and how much it has taken out.
    pub(super) fn update(&mut self, allocation: u32, forwarded: u32) {
        self.allocation = allocation;
        self.forwarded = forwarded;
    }

    /// Bytes that may be sent now.
    pub(super) fn available(&self) -> u32 {
        self.allocation.saturating_sub(self.sent.wrapping_sub(self.forwarded))
    }

    /// `count` bytes were sent.
    pub(super) fn spend(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }
}

/// How much the host takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReceiveCredit {
    forwarded: u32,
    told: u32,
    asked: bool,
}

impl ReceiveCredit {
    /// `count` bytes have left the host's buffer.
    pub(super) fn forward(&mut self, count: usize) {
        // The counter is modulo 2^32 by definition.
        let count = u32::try_from(count & 0xffff_ffff).unwrap_or(0);
        self.forwarded = self.forwarded.wrapping_add(count);
    }

    /// The guest wants to know.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Whether the guest should be told without being sent anything else: it asked, or believes that little of the
    /// buffer is left.
    pub(super) fn is_due(&self) -> bool {
        self.asked || self.forwarded.wrapping_sub(self.told) >= BUFFER_BYTES / 4
    }

    /// The counter for the header of a packet that is sent now.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = self.forwarded;
        self.asked = false;
        self.forwarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap() {
        let mut credit = SendCredit { allocation: 100, forwarded: u32::MAX - 9, sent: u32::MAX - 9 };
        credit.spend(60);
        assert_eq!(credit.available(), 40);
        credit.update(100, 50);
        assert_eq!(credit.available(), 100);
    }

    #[test]
    fn a_guest_that_lies_gets_no_credit() {
        let mut credit = SendCredit::default();
        credit.spend(10);
        credit.update(4096, 11);
        assert_eq!(credit.available(), 0, "more was taken than sent");
        credit.update(5, 0);
        assert_eq!(credit.available(), 0, "the buffer shrank");
    }

    #[test]
    fn tells_the_guest_in_time() {
        let mut credit = ReceiveCredit::default();
        credit.forward(BUFFER_BYTES as usize / 4 - 1);
        assert!(!credit.is_due());
        credit.forward(1);
        assert!(credit.is_due());
        assert_eq!(credit.tell(), BUFFER_BYTES / 4);
        assert!(!credit.is_due());
        credit.ask();
        assert!(credit.is_due());
    }
}
