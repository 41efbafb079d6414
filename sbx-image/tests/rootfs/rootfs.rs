//! Builds root file systems and reads them back with programs that are not ours: `fsck.erofs` and erofs-rs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use erofs_rs::types::Inode;
use rustix::fs::FileType;
use sbx_image::layer::{self, LayerError, LayerSummary, Limits};
use sbx_image::snapshot::{self, SnapshotManifest};
use tempfile::TempDir;

/// Layers and their snapshot on the disk, gone with this value.
pub(crate) struct Rootfs {
    dir: TempDir,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) summaries: Vec<LayerSummary>,
    pub(crate) manifest: SnapshotManifest,
}

/// One file as erofs-rs reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) modified: (i64, u32),
    pub(crate) links: u32,
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Contents of files, targets of links.
    pub(crate) content: Vec<u8>,
    /// The inode's number.
    pub(crate) inode: u64,
}

/// Reads one layer into a directory of its own.
pub(crate) fn ingest(tar: &[u8], limits: &Limits) -> Result<(TempDir, LayerSummary), LayerError> {
    let dir = tempfile::tempdir().unwrap();
    let summary = layer::ingest(&mut &*tar, dir.path(), limits)?;
    Ok((dir, summary))
}

impl Rootfs {
    /// Builds the snapshot of the tars, bottom first, and lets `fsck.erofs` check it.
    pub(crate) fn build(tars: &[Vec<u8>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut layers, mut summaries) = (Vec::new(), Vec::new());
        for (number, tar) in tars.iter().enumerate() {
            let layer = dir.path().join(format!("layer-{number}"));
            fs::create_dir(&layer).unwrap();
            summaries.push(layer::ingest(&mut tar.as_slice(), &layer, &Limits::default()).unwrap());
            layers.push(layer);
        }
        let snapshot = dir.path().join("snapshot");
        fs::create_dir(&snapshot).unwrap();
        let manifest = snapshot::build(&layers, &snapshot).unwrap();
        let rootfs = Self { dir, layers, summaries, manifest };
        rootfs.check();
        rootfs
    }

    /// The whole device, as the guest sees it.
    pub(crate) fn device(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for extent in &self.manifest.extents {
            let path = match &extent.layer {
                None => self.dir.path().join("snapshot/rootfs.erofs"),
                Some(layer) => self.dir.path().join(layer).join("data"),
            };
            let read = File::open(path).unwrap().take(extent.length).read_to_end(&mut bytes).unwrap();
            assert_eq!(read as u64, extent.length);
        }
        bytes
    }

    pub(crate) fn metadata(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("snapshot/rootfs.erofs")).unwrap()
    }

    /// Everything in it by path; the root is "/".
    pub(crate) fn tree(&self) -> BTreeMap<Vec<u8>, Seen> {
        let device = self.device();
        let erofs = EroFS::new(SliceImage::new(&device)).unwrap();
        let root = erofs.get_inode(erofs.super_block().root_inode_id()).unwrap();
        let mut tree = BTreeMap::from([(b"/".to_vec(), seen(&erofs, root))]);
        for entry in erofs.walk_dir("/").unwrap() {
            let entry = entry.unwrap();
            tree.insert(entry.dir_entry.path().as_bytes().to_vec(), seen(&erofs, entry.inode));
        }
        assert_eq!(erofs.super_block().block_count() * 4096, device.len() as u64);
        tree
    }

    /// The file at `path`.
    pub(crate) fn get(&self, path: &str) -> Seen {
        self.tree().get(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing")).clone()
    }

    /// Paths alone.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.tree().keys().map(|path| path.escape_ascii().to_string()).collect()
    }

    fn check(&self) {
        let path = self.dir.path().join("device");
        fs::write(&path, self.device()).unwrap();
        let output = Command::new("fsck.erofs")
            .arg("--extract")
            .arg(&path)
            .output()
            .expect("erofs-utils are installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("<E>"), "fsck.erofs: {text}");
        fs::remove_file(&path).unwrap();
    }
}

fn seen(erofs: &EroFS<SliceImage<'_>>, inode: Inode) -> Seen {
    let kind = inode.file_type();
    let mut content = Vec::new();
    if inode.is_symlink() {
        content = erofs.read_link_inode(inode).unwrap().as_bytes().to_vec();
    } else if inode.is_file() {
        erofs.open_inode_file(inode).unwrap().read_to_end(&mut content).unwrap();
    }
    Seen {
        kind,
        mode: inode.permissions().mode() & 0o7777,
        owner: (inode.uid(), inode.gid()),
        modified: inode.modified_unix(),
        links: inode.nlink(),
        device: inode.device(),
        xattrs: erofs.xattrs_inode(inode).unwrap(),
        content,
        inode: inode.id(),
    }
}

/// Runs GNU tar in `dir`.
pub(crate) fn gnu_tar(dir: &std::path::Path, arguments: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("tar").current_dir(dir).args(arguments).output()?;
    assert!(output.status.success(), "tar: {}", std::ffi::OsStr::from_bytes(&output.stderr).display());
    Ok(output.stdout)
}
