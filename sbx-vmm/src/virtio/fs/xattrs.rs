//! Extended attributes: those of the user's own, and no others.
//!
//! `security.*`, `system.*` and `trusted.*` mean something to the host's kernel (file capabilities, access control
//! lists, labels), so a guest neither sees nor sets them.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fuse_backend_rs::api::filesystem::{GetxattrReply, ListxattrReply};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::host::{Descriptors, Kind};
use super::nodes::ROOT;
use super::state::State;

/// The one namespace that is passed through.
const PREFIX: &[u8] = b"user.";

/// Longest value that Linux has, in bytes (`XATTR_SIZE_MAX`), and longest list of names.
const LONGEST_BYTES: usize = 64 << 10;

impl State {
    /// Reads an attribute; with `size` 0 only its length.
    pub(super) fn attribute(&mut self, number: u64, name: &CStr, size: u32) -> Result<GetxattrReply, Errno> {
        check_name(name)?;
        let Some(stand) = self.readable(number)? else { return Err(Errno::NODATA) };
        let mut value = vec![0; LONGEST_BYTES];
        let length = rustix::fs::getxattr(Descriptors::alias(&stand), name, value.as_mut_slice())?;
        value.truncate(length);
        if size == 0 {
            return Ok(GetxattrReply::Count(count(&value)));
        }
        check_fits(&value, size)?;
        Ok(GetxattrReply::Value(value))
    }

    /// Lists the names of attributes; with `size` 0 only how long the list is.
    pub(super) fn attribute_names(&mut self, number: u64, size: u32) -> Result<ListxattrReply, Errno> {
        let mut names = Vec::new();
        if let Some(stand) = self.readable(number)? {
            let mut all = vec![0; LONGEST_BYTES];
            let length = rustix::fs::listxattr(Descriptors::alias(&stand), all.as_mut_slice())?;
            all.truncate(length);
            for name in all.split_inclusive(|byte| *byte == 0).filter(|name| name.starts_with(PREFIX)) {
                names.extend_from_slice(name);
            }
        }
        if size == 0 {
            return Ok(ListxattrReply::Count(count(&names)));
        }
        check_fits(&names, size)?;
        Ok(ListxattrReply::Names(names))
    }

    /// Sets an attribute; `flags` as of `setxattr(2)`.
    pub(super) fn set_attribute(
        &mut self,
        number: u64,
        name: &CStr,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let stand = self.changeable(number, name)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        rustix::fs::setxattr(Descriptors::alias(&stand), name, value, flags)
    }

    /// Removes an attribute.
    pub(super) fn remove_attribute(&mut self, number: u64, name: &CStr) -> Result<(), Errno> {
        let stand = self.changeable(number, name)?;
        rustix::fs::removexattr(Descriptors::alias(&stand), name)
    }

    /// What to read attributes from; nothing for files that cannot have any.
    fn readable(&mut self, number: u64) -> Result<Option<Arc<OwnedFd>>, Errno> {
        if number == ROOT {
            return Ok(None);
        }
        let (stand, status) = self.stand_for(number)?;
        Ok((Kind::from(&status) != Kind::Other).then_some(stand))
    }

    /// What to change the attribute `name` of, if the guest may.
    fn changeable(&mut self, number: u64, name: &CStr) -> Result<Arc<OwnedFd>, Errno> {
        let share = self.share_of(number)?;
        self.guard(share)?.check_writable()?;
        check_name(name)?;
        let (stand, status) = self.stand_for(number)?;
        if Kind::from(&status) == Kind::Other {
            return Err(Errno::PERM);
        }
        self.check_file(share, &stand, &status)?;
        Ok(stand)
    }
}

fn check_name(name: &CStr) -> Result<(), Errno> {
    let name = name.to_bytes();
    if name.len() > 255 {
        return Err(Errno::RANGE);
    }
    if name.starts_with(PREFIX) && name.len() > PREFIX.len() { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

fn check_fits(bytes: &[u8], size: u32) -> Result<(), Errno> {
    if count(bytes) <= size { Ok(()) } else { Err(Errno::RANGE) }
}

fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
