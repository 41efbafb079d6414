//! The linear block device a guest sees: the metadata, then the contents of each layer.
//!
//! ```text
//!     block 0          m                m + a        m + a + b
//!     ├─ rootfs.erofs ─┼─ layer 0 data ─┼─ layer 1 ─┼─ …          layers without contents take no space
//! ```

use thiserror::Error;

use crate::node::BLOCK_BYTES;

/// Places of the layers on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// First block of each layer.
    bases: Vec<u32>,
    /// Blocks of the whole device.
    pub(crate) blocks: u32,
}

/// The device would need more than the 32-bit block addresses of EROFS.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the layers take more than the {} TiB that one EROFS image can address", (u64::from(u32::MAX).saturating_add(1).saturating_mul(BLOCK_BYTES)) >> 40)]
pub struct DeviceTooLarge;

impl Device {
    /// Lines up `metadata_blocks` and then the layers, whose lengths are in bytes and multiples of the block size.
    pub(crate) fn new(
        metadata_blocks: u64,
        layer_bytes: impl Iterator<Item = u64>,
    ) -> Result<Self, DeviceTooLarge> {
        let mut end = metadata_blocks;
        let mut bases = Vec::new();
        for bytes in layer_bytes {
            bases.push(u32::try_from(end).map_err(|_| DeviceTooLarge)?);
            end = end.checked_add(bytes.div_ceil(BLOCK_BYTES)).ok_or(DeviceTooLarge)?;
        }
        // The last address means a hole.
        match u32::try_from(end) {
            Ok(blocks) if blocks < u32::MAX => Ok(Self { bases, blocks }),
            _ => Err(DeviceTooLarge),
        }
    }

    /// Address on the device of a block of a layer's `data`; the layer is one of those given.
    pub(crate) fn address(&self, layer: usize, block: u32) -> u32 {
        self.bases.get(layer).copied().unwrap_or_default().saturating_add(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_each_other() {
        let device = Device::new(2, [8192, 0, 4096].into_iter()).unwrap();
        assert_eq!(device, Device { bases: vec![2, 4, 4], blocks: 5 });
        assert_eq!(device.address(2, 3), 7);
        assert_eq!(Device::new(1, [16 << 40].into_iter()), Err(DeviceTooLarge));
        assert_eq!(Device::new(u64::MAX, [1].into_iter()), Err(DeviceTooLarge));
        assert!(DeviceTooLarge.to_string().contains("16 TiB"));
    }
}
