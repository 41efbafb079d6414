//! Tars made by hand, so that they can say what no well-behaved tool would write.

use tar::Header;

pub(crate) const TIME: u64 = 1_700_000_000;

/// Bytes of a tar that is being put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tarball {
    pub(crate) bytes: Vec<u8>,
}

impl Tarball {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Any entry; `change` adjusts the header before its checksum is made.
    pub(crate) fn entry(
        mut self,
        flag: u8,
        path: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        let name = &mut header.as_old_mut().name;
        let short = path.len().min(name.len());
        name[..short].copy_from_slice(&path[..short]);
        if path.len() > short {
            self = self.long_name(path);
        }
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(TIME);
        header.set_size(content.len() as u64);
        header.as_old_mut().linkflag = [flag];
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A GNU header with the name of the next entry.
    fn long_name(self, path: &[u8]) -> Self {
        self.entry(b'L', b"././@LongLink", path, no_change)
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(b'0', path.as_bytes(), content, |_| {})
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(b'5', path.as_bytes(), b"", |_| {})
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path.as_bytes(), b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path.as_bytes(), b"", |header| {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        })
    }

    pub(crate) fn device(self, flag: u8, path: &str, major: u32, minor: u32) -> Self {
        self.entry(flag, path.as_bytes(), b"", |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        })
    }

    /// A PAX header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let mut length = body + 1;
            while length != body + length.to_string().len() {
                length = body + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.entry(b'x', b"PaxHeaders/next", &text, |_| {})
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }
}

fn no_change(_: &mut Header) {}
