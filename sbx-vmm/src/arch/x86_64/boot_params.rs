//! What Linux is told at its start (Documentation/arch/x86/boot.rst and zero-page.rst in its source).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};

use super::layout::{BASE_MEMORY_END, COMMAND_LINE, HIGH_MEMORY, LOW_MEMORY_END, MEMORY_BEYOND, MP_TABLE};

/// What the boot protocol wants to see.
const BOOT_FLAG: u16 = 0xaa55;
const HEADER: u32 = 0x5372_6448;

/// The protocol that has everything we use, 2.12, and a loader without a number of its own.
const PROTOCOL: u16 = 0x020c;
const UNKNOWN_LOADER: u8 = 0xff;

/// Kinds of memory in the map.
const USABLE: u32 = 1;
const RESERVED: u32 = 2;

/// For a machine with `memory_bytes`, whose initramfs has `initramfs_bytes` from `initramfs` on, below 4 GiB.
pub(super) fn zero_page(
    memory_bytes: u64,
    initramfs: u32,
    initramfs_bytes: u32,
    command_line_bytes: u32,
) -> boot_params {
    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER;
    params.hdr.version = PROTOCOL;
    params.hdr.type_of_loader = UNKNOWN_LOADER;
    params.hdr.ramdisk_image = initramfs;
    params.hdr.ramdisk_size = initramfs_bytes;
    params.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE).unwrap_or_default();
    params.hdr.cmdline_size = command_line_bytes;
    let map = memory_map(memory_bytes);
    params.e820_entries = u8::try_from(map.len()).unwrap_or_default();
    let mut table = params.e820_table;
    for (entry, (addr, end, kind)) in table.iter_mut().zip(map) {
        *entry = boot_e820_entry { addr, size: end.saturating_sub(addr), type_: kind };
    }
    params.e820_table = table;
    params
}

/// Begin, end and kind of each piece.
fn memory_map(memory_bytes: u64) -> Vec<(u64, u64, u32)> {
    let mut map = vec![
        (0, BASE_MEMORY_END, USABLE),
        (MP_TABLE, HIGH_MEMORY, RESERVED),
        (HIGH_MEMORY, memory_bytes.min(LOW_MEMORY_END), USABLE),
    ];
    if let Some(beyond) = memory_bytes.checked_sub(LOW_MEMORY_END).filter(|beyond| *beyond > 0) {
        map.push((MEMORY_BEYOND, MEMORY_BEYOND.saturating_add(beyond), USABLE));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_fit_below_4_gib_follows_behind() {
        let usable = |bytes: u64| -> u64 {
            memory_map(bytes).iter().filter(|piece| piece.2 == USABLE).map(|piece| piece.1 - piece.0).sum()
        };
        // All but the 384 KiB below 1 MiB that are a PC's own.
        let withheld = HIGH_MEMORY - BASE_MEMORY_END;
        for mib in [64_u64, 3327, 3328, 3329, 8192] {
            assert_eq!(usable(mib << 20), (mib << 20) - withheld, "{mib}");
        }
        assert_eq!(memory_map(3328 << 20).len(), 3);
        assert_eq!(memory_map(3329 << 20).last(), Some(&(1 << 32, (1 << 32) + (1 << 20), USABLE)));
    }
}
