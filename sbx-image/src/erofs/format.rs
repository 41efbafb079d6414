//! On-disk structures of EROFS (`fs/erofs/erofs_fs.h`, Linux 6.12).

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::node::{Device, Kind};

/// log2 of the block size.
pub(crate) const BLOCK_BITS: u8 = 12;
/// Size of a block in bytes.
pub(crate) const BLOCK: usize = 1 << BLOCK_BITS;

/// Where the superblock starts, in bytes.
pub(crate) const SUPER_OFFSET: usize = 1024;
pub(crate) const SUPER_MAGIC: u32 = 0xe0f5_e1e2;

/// Inodes start at multiples of this many bytes; an inode's number is its place divided by it.
pub(crate) const INODE_SLOT: usize = 32;

/// The superblock carries a checksum.
pub(crate) const FEATURE_COMPAT_CHECKSUM: u32 = 0x1;
/// Times in inodes are modification times.
pub(crate) const FEATURE_COMPAT_MTIME: u32 = 0x2;
/// There are chunk-based files.
pub(crate) const FEATURE_INCOMPAT_CHUNKED_FILE: u32 = 0x4;

pub(crate) const LAYOUT_FLAT_PLAIN: u16 = 0;
pub(crate) const LAYOUT_FLAT_INLINE: u16 = 2;
pub(crate) const LAYOUT_CHUNK_BASED: u16 = 4;
/// Lowest bit of the data layout in `format`; bit 0 says that the inode is an extended one.
pub(crate) const FORMAT_LAYOUT_SHIFT: u16 = 1;
pub(crate) const FORMAT_EXTENDED: u16 = 1;

/// Block address of a hole.
pub(crate) const NULL_ADDRESS: u32 = u32::MAX;

/// A file system of ours has this volume name, and the same bytes as UUID: it depends on nothing.
pub(crate) const VOLUME_NAME: [u8; 16] = *b"sbx-snapshot\0\0\0\0";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SuperBlock {
    pub(crate) magic: U32,
    pub(crate) checksum: U32,
    pub(crate) feature_compat: U32,
    pub(crate) block_bits: u8,
    pub(crate) extension_slots: u8,
    pub(crate) root_nid: U16,
    pub(crate) inodes: U64,
    pub(crate) build_time: U64,
    pub(crate) build_time_nanoseconds: U32,
    pub(crate) blocks: U32,
    pub(crate) metadata_block: U32,
    pub(crate) xattr_block: U32,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_name: [u8; 16],
    pub(crate) feature_incompat: U32,
    pub(crate) compression: U16,
    pub(crate) extra_devices: U16,
    pub(crate) device_slots: U16,
    pub(crate) directory_block_bits: u8,
    pub(crate) xattr_prefix_count: u8,
    pub(crate) xattr_prefix_start: U32,
    pub(crate) packed_nid: U64,
    pub(crate) reserved: [u8; 24],
}

/// 64-byte inode. The 32-byte one has no time of its own, and so would only do for files from the build time.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Inode {
    pub(crate) format: U16,
    pub(crate) xattr_count: U16,
    pub(crate) mode: U16,
    pub(crate) reserved: U16,
    pub(crate) size: U64,
    /// Block address, device number, or chunk format.
    pub(crate) address: U32,
    pub(crate) number: U32,
    pub(crate) uid: U32,
    pub(crate) gid: U32,
    pub(crate) seconds: I64,
    pub(crate) nanoseconds: U32,
    pub(crate) links: U32,
    pub(crate) reserved_2: [u8; 16],
}

/// Size of [`Inode`] in bytes.
pub(crate) const INODE: usize = size_of::<Inode>();

/// Size of the header before an inode's extended attributes, in bytes.
pub(crate) const XATTR_HEADER: usize = size_of::<XattrHeader>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrHeader {
    pub(crate) name_filter: U32,
    pub(crate) shared: u8,
    pub(crate) reserved: [u8; 7],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrEntry {
    pub(crate) name_length: u8,
    pub(crate) name_index: u8,
    pub(crate) value_length: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Dirent {
    pub(crate) nid: U64,
    pub(crate) name_offset: U16,
    pub(crate) file_type: u8,
    pub(crate) reserved: u8,
}

/// Size of [`Dirent`] in bytes.
pub(crate) const DIRENT: usize = size_of::<Dirent>();

const _: () = assert!(size_of::<SuperBlock>() == 128 && INODE == 64 && XATTR_HEADER == 12 && DIRENT == 12);

/// Name spaces of extended attributes and the numbers that stand for them; the two access lists are whole names.
pub(crate) const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// File type in directory entries (`include/linux/fs_types.h`).
pub(crate) fn file_type(kind: &Kind<'_>) -> u8 {
    match kind {
        Kind::Regular { .. } => 1,
        Kind::Directory(_) => 2,
        Kind::Character(_) => 3,
        Kind::Block(_) => 4,
        Kind::Fifo => 5,
        Kind::Symlink { .. } => 7,
    }
}

/// File type in the mode (`include/uapi/linux/stat.h`).
pub(crate) fn mode_bits(kind: &Kind<'_>) -> u16 {
    match kind {
        Kind::Regular { .. } => 0o100_000,
        Kind::Directory(_) => 0o040_000,
        Kind::Character(_) => 0o020_000,
        Kind::Block(_) => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Symlink { .. } => 0o120_000,
    }
}

/// Device number in 32 bits (`new_encode_dev` in `include/linux/kdev_t.h`).
pub(crate) fn device_number(device: Device) -> u32 {
    (device.minor & 0xff) | (device.major << 8) | ((device.minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_encoded_as_linux_does() {
        for (major, minor, expected) in
            [(1, 3, 0x103), (259, 0, 0x10300), (8, 0x12345, 0x1230_0845), (0xfff, 0xf_ffff, u32::MAX)]
        {
            assert_eq!(device_number(Device { major, minor }), expected, "{major}:{minor}");
        }
    }
}
