//! A name in a directory, as the guest sent it.
//!
//! Every system call that takes a name from the guest takes a [`Name`], so none can be handed a path: with one
//! component, never `..`, and `O_NOFOLLOW` or its like in every call, there is nothing that could lead out of the
//! directory whose descriptor goes with it.

use std::ffi::CStr;

use rustix::io::Errno;

/// Longest name that Linux file systems have, in bytes (`NAME_MAX`).
const LONGEST_BYTES: usize = 255;

/// One component of a path: not empty, no `/`, not `.` or `..`, at most 255 bytes. Any other byte may occur.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// The name as system calls want it.
    pub(super) fn as_c_str(self) -> &'a CStr {
        self.0
    }

    /// The name without its terminating NUL.
    pub(super) fn bytes(self) -> &'a [u8] {
        self.0.to_bytes()
    }
}

impl<'a> TryFrom<&'a CStr> for Name<'a> {
    type Error = Errno;

    fn try_from(name: &'a CStr) -> Result<Self, Errno> {
        let bytes = name.to_bytes();
        if bytes.len() > LONGEST_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn takes_one_component_of_any_bytes() {
        for name in [&b"file"[..], b"...", b"..a", b"\xff\xfe", b"a b\n", &[b'x'; 255]] {
            let name = CString::new(name).unwrap();
            assert!(Name::try_from(name.as_c_str()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_one_component() {
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../etc", b"/etc/passwd", b"a/"] {
            let name = CString::new(name).unwrap();
            assert_eq!(Name::try_from(name.as_c_str()).unwrap_err(), Errno::INVAL, "{name:?}");
        }
        let long = CString::new(vec![b'x'; 256]).unwrap();
        assert_eq!(Name::try_from(long.as_c_str()).unwrap_err(), Errno::NAMETOOLONG);
    }
}
