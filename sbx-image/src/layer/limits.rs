//! How much one layer may ask for: the bounds that turn a decompression bomb into an error.

/// Bounds on one layer. The defaults leave room above the largest images in use (tens of gigabytes, a million files).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and whiteouts, with directories that are only implied by paths.
    pub entries: u64,
    /// Bytes of file contents written to the disk, padding included, holes not.
    pub data_bytes: u64,
    /// Apparent size of one file in bytes, holes included.
    pub file_bytes: u64,
    /// Apparent length of `data` in bytes: holes within sparse files' chunks count here.
    pub device_bytes: u64,
    /// Bytes of names, attributes and small contents together: what a layer costs in memory.
    pub metadata_bytes: u64,
    /// Bytes of extended attributes of one file.
    pub xattr_bytes: u64,
    /// Bytes of one extension header of the tar (long name, PAX records).
    pub extension_bytes: u64,
    /// Pieces in the map of one sparse file.
    pub sparse_segments: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            data_bytes: 128 << 30,
            file_bytes: 4 << 40,
            device_bytes: 8 << 40,
            metadata_bytes: 512 << 20,
            xattr_bytes: 128 << 10,
            // What Go's archive/tar, and with it containerd, allows.
            extension_bytes: 1 << 20,
            sparse_segments: 1 << 16,
        }
    }
}
