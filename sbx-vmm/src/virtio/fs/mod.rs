//! The file system device: directories of the host, shared with the guest under one tag.

use std::io;
use std::time::Duration;

use fuse_backend_rs::api::{Vfs, VfsOptions};
use fuse_backend_rs::passthrough::{Config, PassthroughFs};

use crate::config::{IdMap, Share};

mod device;

pub use device::FsDevice;

/// The tag that the guest mounts.
pub const TAG: &str = "shares";

/// Why the shares cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The directory of a share cannot be opened.
    #[error("cannot share {}", host.display())]
    Open {
        /// The directory on the host.
        host: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The device that serves `shares`, each under its name.
///
/// # Errors
/// If the directory of a share cannot be opened.
pub fn shares(shares: &[Share], _ids: IdMap) -> Result<FsDevice<Vfs>, ShareError> {
    let vfs = Vfs::new(VfsOptions {
        no_open: false,
        no_opendir: false,
        no_writeback: true,
        ..VfsOptions::default()
    });
    for share in shares {
        let failed = |source| ShareError::Open { host: share.host.clone(), source };
        let config = Config {
            root_dir: share.host.to_string_lossy().into_owned(),
            do_import: false,
            xattr: true,
            entry_timeout: Duration::from_secs(1),
            attr_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let passthrough = PassthroughFs::<()>::new(config).map_err(failed)?;
        passthrough.import().map_err(failed)?;
        vfs.mount(Box::new(passthrough), &format!("/{}", share.name))
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
    }
    Ok(FsDevice::new(TAG, vfs))
}
