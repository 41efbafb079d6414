//! Why a layer is refused. Paths in here are shortened and escaped for display.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::layer::StoredError;
use crate::layer::pax::PaxError;

/// Why a layer cannot be written as a tar.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteTarError {
    /// The layer is damaged.
    #[error(transparent)]
    Layer(#[from] StoredError),
    /// Its contents cannot be read, or the tar not written.
    #[error("cannot copy the contents of a layer")]
    Copy {
        /// What the system said.
        source: io::Error,
    },
}

/// Why a layer is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The stream is no tar that can be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A file of the layer's directory cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A path that cannot be inside an image.
    #[error("layer entry `{path}` is refused: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A whiteout of nothing, `.` or `..`.
    #[error("whiteout `{path}` names no file")]
    Whiteout {
        /// Its path.
        path: String,
    },
    /// The entry for the root is no directory.
    #[error("layer entry `{path}` would replace the root directory with a file")]
    Root {
        /// Its path.
        path: String,
    },
    /// A file of the layer stands where a directory is needed.
    #[error("layer entry `{path}` lies below a file that is no directory")]
    ParentNotDirectory {
        /// The path.
        path: String,
    },
    /// Symbolic links on the way lead nowhere.
    #[error("layer entry `{path}` lies behind too many symbolic links")]
    LinkLoop {
        /// The path.
        path: String,
    },
    /// A hard link to what is not there.
    #[error("hard link `{path}` to `{target}` is refused: {reason}")]
    HardLink {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A symbolic link with an empty, too long or NUL-holding target.
    #[error("symbolic link `{path}` has an empty target, one above 4095 bytes, or one with a NUL byte")]
    Symlink {
        /// The link.
        path: String,
    },
    /// A device number Linux does not have.
    #[error("device `{path}`: number {major}:{minor} is out of range")]
    Device {
        /// Path of the device.
        path: String,
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// An extended attribute that Linux could not hold.
    #[error("`{path}`: extended attribute `{name}` has a name above 255 or a value above 65535 bytes")]
    Xattr {
        /// Path of the file.
        path: String,
        /// Name of the attribute.
        name: String,
    },
    /// Too many bytes of extended attributes on one file.
    #[error("`{path}` has {bytes} bytes of extended attributes; at most {limit} are accepted")]
    Xattrs {
        /// Path of the file.
        path: String,
        /// Their bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// More entries than the limit.
    #[error("the layer has more than {limit} entries (at `{path}`)")]
    TooManyEntries {
        /// The entry that is too many.
        path: String,
        /// The limit.
        limit: u64,
    },
    /// More metadata than the limit.
    #[error("names and attributes of the layer take more than {limit} bytes (at `{path}`)")]
    Metadata {
        /// The entry that is too much.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file larger than the limit.
    #[error("`{path}` claims {bytes} bytes; at most {limit} are accepted")]
    FileSize {
        /// Path of the file.
        path: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// More contents than the limit.
    #[error("the files of the layer take more than {limit} bytes (at `{path}`)")]
    Data {
        /// The entry that is too much.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
}

/// Why a stream is not a tar that can be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TarError {
    /// The stream broke.
    #[error("cannot read the layer's tar stream")]
    Read {
        /// What the reader said.
        source: io::Error,
    },
    /// The stream ends within an entry.
    #[error("the layer's tar ends in the middle of an entry")]
    Truncated,
    /// A header's checksum is wrong or a record that should be a header is none.
    #[error("the layer is not a tar archive: invalid header after `{previous}`")]
    Header {
        /// Path of the entry before.
        previous: String,
    },
    /// A number field of the header is malformed.
    #[error("tar entry `{path}`: malformed {field} in the header")]
    Field {
        /// Path of the entry.
        path: String,
        /// Which field.
        field: &'static str,
    },
    /// A user or group id does not fit in 32 bits.
    #[error("tar entry `{path}`: user or group id {value} is above 4294967295")]
    Identity {
        /// Path of the entry.
        path: String,
        /// The id.
        value: u64,
    },
    /// A type of entry that images do not use.
    #[error("tar entry `{path}` has the unsupported type `{type_flag}`")]
    Type {
        /// Path of the entry.
        path: String,
        /// The type flag, escaped.
        type_flag: String,
    },
    /// A record of a PAX header is malformed.
    #[error("malformed PAX header `{path}`")]
    Pax {
        /// Path that the PAX header gives itself.
        path: String,
        /// What is wrong.
        source: PaxError,
    },
    /// An extension header is larger than the limit.
    #[error("extension header of {bytes} bytes after tar entry `{previous}`; at most {limit} are accepted")]
    Extension {
        /// Path of the entry before.
        previous: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The map of a sparse file is malformed, out of order, or has too many parts.
    #[error("tar entry `{path}`: the map of the sparse file is malformed or has more than {limit} parts")]
    Sparse {
        /// Path of the entry.
        path: String,
        /// The limit.
        limit: u64,
    },
}
