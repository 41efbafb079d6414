//! What every machine boots: the kernel that was installed, and the guest that this program carries.

use std::{fs, io::Write, path::PathBuf};

use crate::{
    environment,
    error::{CommandError, Result},
    paths::Paths,
};

/// The initramfs with sbx-guest as `/init`.
static INITRAMFS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/initramfs.cpio"));

/// Names the guest that this program carries: the content of its initramfs.
pub(crate) const GUEST_KEY: &str = env!("SBX_INITRAMFS_HASH");

/// Names the recipe of the kernel that this program was built with.
pub(crate) const KERNEL_KEY: &str = env!("SBX_KERNEL_KEY");

/// The kernel: `$SBX_KERNEL`, or the installed one of our recipe.
///
/// # Errors
/// If there is none.
pub(crate) fn kernel(paths: &Paths) -> Result<PathBuf> {
    if let Some(path) = environment::path(environment::SBX_KERNEL) {
        let path = std::path::absolute(&path).unwrap_or(path);
        if !path.is_file() {
            return Err(CommandError::failed(format!("SBX_KERNEL: there is no file {}", path.display())));
        }
        return Ok(path);
    }
    let path = paths.kernels().join(KERNEL_KEY).join("vmlinux");
    if !path.is_file() {
        return Err(CommandError::failed(format!("there is no guest kernel at {}", paths.display(&path)))
            .with_hint("`cargo xtask kernel` in a checkout of sbx builds and installs it"));
    }
    Ok(path)
}

/// The initramfs, written out the first time that it is needed.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn initramfs(paths: &Paths) -> Result<PathBuf> {
    let directory = paths.guests();
    let path = directory.join(format!("{GUEST_KEY}.cpio"));
    let length = INITRAMFS.len() as u64;
    if fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == length) {
        return Ok(path);
    }
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&directory)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&directory)?;
        file.write_all(INITRAMFS)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error| {
        CommandError::failed(format!("cannot write {}", path.display())).with_source(error)
    })?;
    Ok(path)
}
