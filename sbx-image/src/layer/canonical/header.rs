//! One entry's headers: ustar, and in front of it a PAX header for what does not fit (POSIX.1-2017, pax).
//!
//! There is one way to write everything, because the digest of the tar is the layer's name: a value goes into the ustar
//! header if it fits there, else into a PAX record; records are sorted by key.

use tar::{EntryType, Header};

use crate::layer::header::RECORD_LENGTH;
use crate::node::{Attributes, Device, Timestamp};

/// Bytes that a name or link target may have in a ustar header.
const NAME_BYTES: usize = 100;

/// Largest user and group id, and largest size and time, in the octal digits of a ustar header.
const ID_MAX: u32 = 0o777_7777;
const SIZE_MAX: u64 = 0o777_7777_7777;

/// Name that a PAX header goes by; readers do not look at it.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// What one header says.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: EntryType,
    pub(super) path: &'a [u8],
    /// Target of a link, or nothing.
    pub(super) link: &'a [u8],
    pub(super) size: u64,
    pub(super) attributes: &'a Attributes<'a>,
    pub(super) device: Option<Device>,
}

impl Entry<'_> {
    /// Appends the entry's headers.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let records = self.records();
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            name(&mut header, PAX_NAME, b"");
            numbers(&mut header, 0o644, 0, 0, u64::try_from(records.len()).unwrap_or(u64::MAX), 0);
            finish(header, EntryType::XHeader, to);
            to.extend_from_slice(&records);
            to.resize(to.len().next_multiple_of(RECORD_LENGTH), 0);
        }
        let Attributes { mode, uid, gid, modified, .. } = self.attributes;
        let mut header = Header::new_ustar();
        name(&mut header, self.path, self.link);
        let id = |id: u32| if id > ID_MAX { 0 } else { id };
        let size = if self.size > SIZE_MAX { 0 } else { self.size };
        let seconds = plain_seconds(*modified).unwrap_or(0);
        numbers(&mut header, *mode, id(*uid), id(*gid), size, seconds);
        if let (Some(device), Some(ustar)) = (self.device, header.as_ustar_mut()) {
            ustar.set_device_major(device.major);
            ustar.set_device_minor(device.minor);
        }
        finish(header, self.kind, to);
    }

    fn records(&self) -> Vec<u8> {
        let Attributes { uid, gid, modified, xattrs, .. } = self.attributes;
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for xattr in xattrs {
            records.push(([b"SCHILY.xattr.", &*xattr.name].concat(), xattr.value.to_vec()));
        }
        let mut add = |needed: bool, key: &[u8], value: Vec<u8>| {
            if needed {
                records.push((key.to_vec(), value));
            }
        };
        add(*gid > ID_MAX, b"gid", gid.to_string().into());
        add(self.link.len() > NAME_BYTES, b"linkpath", self.link.to_vec());
        add(plain_seconds(*modified).is_none(), b"mtime", time_text(*modified).into());
        add(self.path.len() > NAME_BYTES, b"path", self.path.to_vec());
        add(self.size > SIZE_MAX, b"size", self.size.to_string().into());
        add(*uid > ID_MAX, b"uid", uid.to_string().into());
        records.sort();
        let mut bytes = Vec::new();
        for (key, value) in records {
            record(&key, &value, &mut bytes);
        }
        bytes
    }
}

/// The time, if the ustar header can say it.
fn plain_seconds(time: Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= SIZE_MAX)?;
    (time.nanoseconds == 0).then_some(seconds)
}

/// Decimal seconds; nanoseconds count forward also before 1970, the text does not.
fn time_text(time: Timestamp) -> String {
    let nanoseconds =
        i128::from(time.seconds).saturating_mul(1_000_000_000).saturating_add(i128::from(time.nanoseconds));
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (seconds, rest) =
        (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
    if rest == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{rest:09}") }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8], to: &mut Vec<u8>) {
    // Blank, equals sign and newline.
    let body = key.len().saturating_add(value.len()).saturating_add(3);
    let mut length = body;
    loop {
        let next = body.saturating_add(length.to_string().len());
        if next == length {
            break;
        }
        length = next;
    }
    to.extend_from_slice(format!("{length} ").as_bytes());
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

/// Sets name and link target, cut where a PAX record has them whole.
fn name(header: &mut Header, path: &[u8], link: &[u8]) {
    let fields = header.as_old_mut();
    for (field, text) in [(&mut fields.name, path), (&mut fields.linkname, link)] {
        for (slot, byte) in field.iter_mut().zip(text) {
            *slot = *byte;
        }
    }
}

fn numbers(header: &mut Header, mode: u16, uid: u32, gid: u32, size: u64, seconds: u64) {
    header.set_mode(mode.into());
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_size(size);
    header.set_mtime(seconds);
}

fn finish(mut header: Header, kind: EntryType, to: &mut Vec<u8>) {
    header.set_entry_type(kind);
    header.set_cksum();
    to.extend_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::pax;

    #[test]
    fn lengths_of_records_count_themselves() {
        for value_length in [0, 1, 92, 93, 94, 95, 989, 990, 991, 992, 9_984, 9_985, 9_986, 9_987] {
            let mut bytes = Vec::new();
            let value = vec![b'v'; value_length];
            record(b"key", &value, &mut bytes);
            let read: Vec<_> = pax::records(&bytes).collect::<Result<_, _>>().unwrap();
            assert_eq!(read, [(&b"key"[..], &value[..])], "{value_length}");
        }
    }

    #[test]
    fn times_are_read_as_they_were() {
        for (seconds, nanoseconds) in
            [(0, 1), (1, 500_000_000), (-2, 500_000_000), (-1, 999_999_999), (-3, 0), (1 << 40, 0)]
        {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(plain_seconds(time), None);
            assert_eq!(pax::time("mtime", time_text(time).as_bytes()), Ok(time), "{}", time_text(time));
        }
        assert_eq!(plain_seconds(Timestamp { seconds: 5, nanoseconds: 0 }), Some(5));
    }
}
