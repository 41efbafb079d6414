//! The registers of a virtio-mmio device (virtio 1.2, 4.2.2), as a table.

/// Bytes of a device's window of addresses.
pub const WINDOW_BYTES: u64 = 0x1000;

/// Where the configuration space begins.
const CONFIG: u64 = 0x100;

/// Where the driver says which queue has something for the device.
pub const QUEUE_NOTIFY: u64 = 0x050;

/// Bytes of every register.
const REGISTER_BYTES: usize = 4;

/// A register. All are little-endian and four bytes wide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Register {
    MagicValue,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSel,
    DriverFeatures,
    DriverFeaturesSel,
    QueueSel,
    QueueNumMax,
    QueueNum,
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAck,
    Status,
    /// Half an address of the selected queue.
    Address(Area, Half),
    ShmLenLow,
    ShmLenHigh,
    ShmBaseLow,
    ShmBaseHigh,
    ConfigGeneration,
}

/// An area of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Area {
    /// The descriptor table.
    Descriptors,
    /// The available ring, which the specification calls the driver area here.
    Available,
    /// The used ring, the device area.
    Used,
}

/// A half of a 64-bit value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Half {
    Low,
    High,
}

impl Half {
    /// `whole` with this half replaced.
    pub(super) fn replace(self, whole: u64, half: u32) -> u64 {
        const LOW: u64 = 0xffff_ffff;
        match self {
            Self::Low => (whole & !LOW) | u64::from(half),
            Self::High => (whole & LOW) | (u64::from(half) << 32),
        }
    }
}

/// Every register by its offset in the window. SHMSel (0x0ac) is not here, since no device has shared memory, nor is
/// QueueReset (0x0c0), since the feature that it belongs to is not offered.
const TABLE: &[(u64, Register)] = &[
    (0x000, Register::MagicValue),
    (0x004, Register::Version),
    (0x008, Register::DeviceId),
    (0x00c, Register::VendorId),
    (0x010, Register::DeviceFeatures),
    (0x014, Register::DeviceFeaturesSel),
    (0x020, Register::DriverFeatures),
    (0x024, Register::DriverFeaturesSel),
    (0x030, Register::QueueSel),
    (0x034, Register::QueueNumMax),
    (0x038, Register::QueueNum),
    (0x044, Register::QueueReady),
    (QUEUE_NOTIFY, Register::QueueNotify),
    (0x060, Register::InterruptStatus),
    (0x064, Register::InterruptAck),
    (0x070, Register::Status),
    (0x080, Register::Address(Area::Descriptors, Half::Low)),
    (0x084, Register::Address(Area::Descriptors, Half::High)),
    (0x090, Register::Address(Area::Available, Half::Low)),
    (0x094, Register::Address(Area::Available, Half::High)),
    (0x0a0, Register::Address(Area::Used, Half::Low)),
    (0x0a4, Register::Address(Area::Used, Half::High)),
    (0x0b0, Register::ShmLenLow),
    (0x0b4, Register::ShmLenHigh),
    (0x0b8, Register::ShmBaseLow),
    (0x0bc, Register::ShmBaseHigh),
    (0x0fc, Register::ConfigGeneration),
];

/// What an access means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// A register, as a whole.
    Register(Register),
    /// The configuration space from this offset on.
    Config(u64),
    /// Nothing that a driver may touch: reads as zeros, and writes are ignored.
    Nothing,
}

/// What `length` bytes at `offset` of the window are.
///
/// A driver must use aligned accesses of 32 bits to the registers and may use any to the configuration space (4.2.2.2).
pub(super) fn decode(offset: u64, length: usize) -> Access {
    if let Some(offset) = offset.checked_sub(CONFIG) {
        return Access::Config(offset);
    }
    let entry = TABLE.iter().find(|(place, _)| *place == offset && length == REGISTER_BYTES);
    entry.map_or(Access::Nothing, |(_, register)| Access::Register(*register))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_access_is_decoded_as_the_specification_says() {
        // All there are: every offset of the window with every length that a processor can ask for.
        for offset in 0..WINDOW_BYTES {
            for length in [1, 2, 4, 8] {
                let access = decode(offset, length);
                let listed = TABLE.iter().find(|(place, _)| *place == offset);
                match (offset >= CONFIG, listed) {
                    (true, None) => assert_eq!(access, Access::Config(offset - CONFIG)),
                    (false, Some((_, register))) if length == 4 => {
                        assert_eq!(access, Access::Register(*register));
                    }
                    (false, _) => assert_eq!(access, Access::Nothing, "{offset:#x} {length}"),
                    (true, Some(_)) => panic!("{offset:#x} is a register in the configuration space"),
                }
            }
        }
        assert_eq!(decode(u64::MAX, 4), Access::Config(u64::MAX - CONFIG));
    }

    #[test]
    fn the_table_has_no_register_twice_and_all_are_aligned() {
        for (index, (place, register)) in TABLE.iter().enumerate() {
            assert_eq!(place % 4, 0);
            assert!(TABLE[..index].iter().all(|(earlier, other)| earlier < place && other != register));
        }
    }

    proptest! {
        #[test]
        fn halves_make_a_whole(before: u64, whole: u64) {
            let [low, high] = [whole & 0xffff_ffff, whole >> 32].map(|half| u32::try_from(half).unwrap());
            prop_assert_eq!(Half::High.replace(Half::Low.replace(before, low), high), whole);
            prop_assert_eq!(Half::Low.replace(Half::High.replace(before, high), low), whole);
            prop_assert_eq!(Half::Low.replace(before, low) >> 32, before >> 32);
        }
    }
}
