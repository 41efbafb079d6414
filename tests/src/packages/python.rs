//! An index for pip (PEP 503): pages of links, and wheels.
//!
//! ```text
//! simple/NAME/index.html       a link for each file, with its hash
//! files/NAME-VERSION-py3-none-any.whl
//! ```

use std::{
    fmt::Write as _,
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
};

use super::{sha256, write};

/// The index.
#[derive(Debug)]
pub struct PythonIndex {
    directory: PathBuf,
}

impl PythonIndex {
    /// An index in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// Publishes a wheel, or another one under a version that there is. `needs` is what it depends on; the module has the name
    /// of the project and `code` in it, and a command of that name calls its `main`.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn publish(&self, name: &str, version: &str, needs: &[&str], code: &str) {
        let info = format!("{name}-{version}.dist-info");
        let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
        for needed in needs {
            let _ = writeln!(metadata, "Requires-Dist: {needed}");
        }
        let wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let commands = format!("[console_scripts]\n{name} = {name}:main\n");
        let files = [
            (format!("{name}/__init__.py"), code),
            (format!("{info}/METADATA"), &metadata),
            (format!("{info}/WHEEL"), wheel),
            (format!("{info}/entry_points.txt"), &commands),
        ];
        let record: String = files.iter().map(|(path, _)| format!("{path},,\n")).collect();
        let record = (format!("{info}/RECORD"), format!("{record}{info}/RECORD,,\n"));
        let files = files.map(|(path, content)| (path, content.to_owned())).into_iter().chain([record]);
        let file = format!("{name}-{version}-py3-none-any.whl");
        write(&self.directory.join("files").join(&file), zip(files));
        self.list(name);
    }

    /// Takes a version away.
    ///
    /// # Panics
    /// If there is none.
    pub fn withdraw(&self, name: &str, version: &str) {
        let file = format!("{name}-{version}-py3-none-any.whl");
        fs::remove_file(self.directory.join("files").join(file)).unwrap();
        self.list(name);
    }

    /// Publishes source alone.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn publish_source(&self, name: &str, version: &str) {
        let setup = (format!("{name}-{version}/setup.py"), "import setuptools; setuptools.setup()\n");
        let archive = super::archive(&[(&setup.0, 0o644, setup.1.as_bytes())]);
        write(&self.directory.join("files").join(format!("{name}-{version}.tar.gz")), archive);
        self.list(name);
    }

    /// Writes the page of a project: its files as they are now.
    fn list(&self, name: &str) {
        let mut files: Vec<_> = fs::read_dir(self.directory.join("files")).unwrap().flatten().collect();
        files.sort_unstable_by_key(fs::DirEntry::file_name);
        let mut page = "<!DOCTYPE html><html><body>\n".to_owned();
        for file in files {
            let file_name = file.file_name().into_string().unwrap();
            if file_name.split('-').next() == Some(name) {
                let hash = sha256(&fs::read(file.path()).unwrap());
                let _ = writeln!(page, "<a href=\"/files/{file_name}#sha256={hash}\">{file_name}</a>");
            }
        }
        write(&self.directory.join("simple").join(name).join("index.html"), page + "</body></html>\n");
    }
}

/// A ZIP archive of stored files (APPNOTE.TXT of PKWARE, 4.3).
fn zip(files: impl Iterator<Item = (String, String)>) -> Vec<u8> {
    const VERSION: u16 = 20;
    /// 1980-01-01 as MS-DOS has it.
    const DATE: u16 = 0x21;
    let mut out = Cursor::new(Vec::new());
    let (mut directory, mut count) = (Vec::new(), 0_u16);
    for (name, content) in files {
        let offset = u32::try_from(out.position()).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(content.as_bytes());
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let shared = [
            &VERSION.to_le_bytes()[..],
            &[0; 6],
            &DATE.to_le_bytes(),
            &crc.sum().to_le_bytes(),
            &length,
            &length,
            &name_length,
            &[0; 2],
        ]
        .concat();
        out.write_all(&[b"PK\x03\x04", shared.as_slice(), name.as_bytes(), content.as_bytes()].concat())
            .unwrap();
        let made_by = VERSION.to_le_bytes();
        let rest = [&[0; 10][..], &offset.to_le_bytes()].concat();
        directory.extend([b"PK\x01\x02", &made_by[..], &shared, &rest, name.as_bytes()].concat());
        count += 1;
    }
    let offset = u32::try_from(out.position()).unwrap();
    let size = u32::try_from(directory.len()).unwrap();
    let mut bytes = out.into_inner();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    for number in [count, count] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([size, offset].map(u32::to_le_bytes).concat());
    bytes.extend([0; 2]);
    bytes
}
