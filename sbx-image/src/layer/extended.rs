//! What a PAX extended header says about the entry behind it.

use crate::layer::pax::{self, PaxError};
use crate::layer::sparse::Segment;
use crate::node::{Timestamp, Xattr};

/// Records of the PAX header that matter; later ones win, empty values take back.
#[derive(Debug, Default)]
pub(crate) struct PaxValues {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) modified: Option<Timestamp>,
    pub(crate) xattrs: Vec<Xattr<'static>>,
    pub(crate) sparse_name: Option<Vec<u8>>,
    pub(crate) sparse_size: Option<u64>,
    pub(crate) sparse_major: Option<u64>,
    pub(crate) sparse_map: Option<Vec<u8>>,
    pub(crate) sparse_offset: Option<u64>,
    pub(crate) sparse_segments: Vec<Segment>,
}

impl PaxValues {
    /// Reads all records of a header.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, PaxError> {
        let mut pax = Self::default();
        for record in pax::records(bytes) {
            let (key, value) = record?;
            pax.apply(key, value)?;
        }
        // Of records with the same name the last one counts. One sort: a header may hold 50,000 of them.
        pax.xattrs.reverse();
        pax.xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        pax.xattrs.dedup_by(|a, b| a.name == b.name);
        Ok(pax)
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), PaxError> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = |key| (!value.is_empty()).then(|| pax::number(key, value)).transpose();
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number("size")?,
            b"uid" => self.uid = number("uid")?,
            b"gid" => self.gid = number("gid")?,
            b"mtime" => self.modified = (!value.is_empty()).then(|| pax::time("mtime", value)).transpose()?,
            b"GNU.sparse.name" => self.sparse_name = text(),
            b"GNU.sparse.size" => self.sparse_size = number("GNU.sparse.size")?,
            b"GNU.sparse.realsize" => self.sparse_size = number("GNU.sparse.realsize")?,
            b"GNU.sparse.major" => self.sparse_major = number("GNU.sparse.major")?,
            b"GNU.sparse.map" => self.sparse_map = Some(value.to_vec()),
            b"GNU.sparse.offset" => self.sparse_offset = number("GNU.sparse.offset")?,
            b"GNU.sparse.numbytes" => {
                let (offset, length) = (self.sparse_offset.take(), number("GNU.sparse.numbytes")?);
                if let (Some(offset), Some(length)) = (offset, length) {
                    self.sparse_segments.push(Segment { offset, length });
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push(Xattr { name: name.to_vec().into(), value: value.to_vec().into() });
                }
            }
        }
        Ok(())
    }
}
