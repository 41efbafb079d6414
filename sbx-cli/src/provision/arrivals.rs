//! Files of a download that is under way: each is kept as soon as it is whole, so that whatever ends the download, the next one
//! fetches the rest.

use std::{fs, path::Path};

use sbx_manifest::lock::Pin;

use super::{bench::Bench, client::Client, hash::Hash};

/// How often a file is looked at that is not whole: each time costs a hash over what there is, and a hostile guest can make it
/// longer with every line that it prints.
const LOOKS: u8 = 8;

/// The files that are expected.
#[derive(Debug)]
pub(super) struct Arrivals<'a> {
    bench: &'a Bench<'a>,
    directory: &'a Path,
    expected: Vec<Expected>,
}

#[derive(Debug)]
struct Expected {
    name: String,
    hash: Hash,
    /// How long it was when it was last looked at, and was not whole.
    length: u64,
    looks: u8,
}

impl<'a> Arrivals<'a> {
    /// Those of `pins` in a directory that a guest writes to.
    pub(super) fn new(bench: &'a Bench<'a>, directory: &'a Path, client: &dyn Client, pins: &[Pin]) -> Self {
        let expected = pins.iter().filter_map(|pin| {
            Some(Expected {
                name: client.file_name(pin),
                hash: Hash::parse(&pin.hash)?,
                length: 0,
                looks: LOOKS,
            })
        });
        Self { bench, directory, expected: expected.collect() }
    }

    /// Keeps those that are whole now. Others are no fault yet: they may be on their way.
    pub(super) fn take_in(&mut self) {
        let (downloads, directory) = (&self.bench.downloads, self.directory);
        self.expected.retain_mut(|file| {
            let length =
                fs::symlink_metadata(directory.join(&file.name)).map_or(0, |metadata| metadata.len());
            if length == file.length || file.looks == 0 {
                return true;
            }
            file.length = length;
            file.looks = file.looks.saturating_sub(1);
            let kept = downloads.take_in(directory, &file.name, Some(&file.hash)).is_ok();
            if kept {
                tracing::debug!("kept {}", file.name);
            }
            !kept
        });
    }
}
