//! One entry of the tar: a GNU header, and before it a PAX header for what that does not hold.

use std::io::{self, Write};

use rustix::fs::Stat;
use tar::{EntryType, Header};

/// Size of headers, and what contents are padded to, in bytes.
const RECORD_BYTES: usize = 512;

/// Bytes that a name or link target may have in a header.
const NAME_BYTES: usize = 100;

/// Name and value of an extended attribute.
pub(super) type Attribute = (Vec<u8>, Vec<u8>);

/// One entry without its contents.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    /// Target of a link, or nothing.
    pub(super) link: &'a [u8],
    /// Bytes of contents that follow.
    pub(super) size: u64,
    pub(super) status: &'a Stat,
    pub(super) attributes: Vec<Attribute>,
}

impl Entry<'_> {
    /// Writes the headers.
    pub(super) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let records = self.records();
        if !records.is_empty() {
            let mut header = Header::new_gnu();
            set_name(&mut header, b"././@PaxHeader", b"");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(u64::try_from(records.len()).unwrap_or(u64::MAX));
            header.set_entry_type(EntryType::XHeader);
            header.set_cksum();
            to.write_all(header.as_bytes())?;
            to.write_all(&records)?;
            pad(u64::try_from(records.len()).unwrap_or(u64::MAX), to)?;
        }
        let mut header = Header::new_gnu();
        set_name(&mut header, self.path, self.link);
        header.set_mode(self.status.st_mode & 0o7777);
        header.set_uid(self.status.st_uid.into());
        header.set_gid(self.status.st_gid.into());
        header.set_size(self.size);
        header.set_mtime(u64::try_from(self.status.st_mtime).unwrap_or(0));
        if matches!(self.kind, EntryType::Char | EntryType::Block) {
            let device = self.status.st_rdev;
            header.set_device_major(rustix::fs::major(device))?;
            header.set_device_minor(rustix::fs::minor(device))?;
        }
        header.set_entry_type(self.kind);
        header.set_cksum();
        to.write_all(header.as_bytes())
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        if self.path.len() > NAME_BYTES {
            record(b"path", self.path, &mut records);
        }
        if self.link.len() > NAME_BYTES {
            record(b"linkpath", self.link, &mut records);
        }
        let (seconds, nanoseconds) = (self.status.st_mtime, self.status.st_mtime_nsec);
        if let Some(time) = time_text(seconds, i64::try_from(nanoseconds).unwrap_or(0)) {
            record(b"mtime", time.as_bytes(), &mut records);
        }
        for (name, value) in &self.attributes {
            record(&[b"SCHILY.xattr.", &**name].concat(), value, &mut records);
        }
        records
    }
}

/// Fills the last record of `size` bytes of contents.
pub(super) fn pad(size: u64, to: &mut dyn Write) -> io::Result<()> {
    let over = usize::try_from(size.wrapping_neg() & 511).unwrap_or(0);
    to.write_all([0; RECORD_BYTES].get(..over).unwrap_or_default())
}

/// Decimal seconds, if the header cannot say the time: with a fraction, or before 1970, of which the nanoseconds count
/// forward and the text does not.
fn time_text(seconds: i64, nanoseconds: i64) -> Option<String> {
    if seconds >= 0 && nanoseconds == 0 {
        return None;
    }
    let whole = i128::from(seconds).saturating_mul(1_000_000_000).saturating_add(nanoseconds.into());
    let (sign, size) = (if whole < 0 { "-" } else { "" }, whole.unsigned_abs());
    Some(format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000))
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself (POSIX.1-2017, pax, "pax Extended Header").
fn record(key: &[u8], value: &[u8], to: &mut Vec<u8>) {
    let rest = key.len().saturating_add(value.len()).saturating_add(3);
    let mut length = rest;
    while length != rest.saturating_add(length.to_string().len()) {
        length = rest.saturating_add(length.to_string().len());
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

/// Sets name and link target, cut where a PAX record has them whole.
fn set_name(header: &mut Header, path: &[u8], link: &[u8]) {
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, path), (&mut fields.linkname, link)] {
        for (slot, byte) in field.iter_mut().zip(text) {
            *slot = *byte;
        }
    }
}
