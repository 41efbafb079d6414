use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use tempfile::TempDir;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_RO, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::BlockDevice;
use crate::config::Extent;
use crate::testing::{Buffer, Guest, NEXT, WRITE};
use crate::virtio::VirtioDevice;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// What the guest sees as long as nobody wrote.
const UNTOUCHED: u8 = 0xee;

struct Disk {
    directory: TempDir,
    device: BlockDevice,
    guest: Guest,
}

impl Disk {
    /// A writable disk of `length` bytes that are all `byte`.
    fn scratch(length: usize, byte: u8) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("scratch");
        fs::write(&path, vec![byte; length]).unwrap();
        let device = BlockDevice::from_file("scratch", &path).unwrap();
        Self { directory, device, guest: Guest::new(&[128]) }
    }

    /// A read-only disk: two pages of 1, a page of 2 and one of nothing, a page of 3.
    fn root() -> Self {
        let directory = TempDir::new().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        fs::write(&first, [vec![9; 4096], vec![1; 8192]].concat()).unwrap();
        fs::write(&second, [vec![3; 4096], vec![2; 4096]].concat()).unwrap();
        let extent = |file: &PathBuf, offset, length| Extent { file: file.clone(), offset, length };
        let extents = [extent(&first, 4096, 8192), extent(&second, 4096, 8192), extent(&second, 0, 4096)];
        let device = BlockDevice::from_extents("root", &extents).unwrap();
        Self { directory, device, guest: Guest::new(&[128]) }
    }

    fn scratch_file(&self) -> File {
        File::open(self.directory.path().join("scratch")).unwrap()
    }

    fn header(&mut self, kind: u32, sector: u64) -> Buffer {
        let bytes = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        Buffer::Readable(self.guest.store(&bytes), 16)
    }

    /// Sends a request and returns the status byte and the length in the used ring.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        let header = self.header(kind, sector);
        let status = self.guest.store(&[UNTOUCHED]);
        let chain = [&[header][..], data, &[Buffer::Writable(status, 1)]].concat();
        let head = self.guest.add(0, &chain);
        self.guest.kick(&mut self.device, 0).unwrap();
        let (used, length) = self.guest.take_used(0).unwrap();
        assert_eq!(used, head);
        (self.guest.read(status, 1)[0], length)
    }

    fn read(&mut self, sector: u64, length: u32) -> Vec<u8> {
        let place = self.guest.store(&vec![UNTOUCHED; length as usize]);
        let answer = self.request(VIRTIO_BLK_T_IN, sector, &[Buffer::Writable(place, length)]);
        assert_eq!(answer, (OK, length + 1));
        self.guest.read(place, length as usize)
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> u8 {
        let data = Buffer::Readable(self.guest.store(bytes), u32::try_from(bytes.len()).unwrap());
        self.request(VIRTIO_BLK_T_OUT, sector, &[data]).0
    }

    fn range(&mut self, sector: u64, sectors: u32, flags: u32) -> Buffer {
        let bytes = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat();
        Buffer::Readable(self.guest.store(&bytes), 16)
    }
}

#[test]
fn reads_across_extents_and_zeros_behind_the_end_of_a_file() {
    let mut disk = Disk::root();
    let all = disk.read(0, 5 * 4096);
    assert!(all == [vec![1; 8192], vec![2; 4096], vec![0; 4096], vec![3; 4096]].concat());
    assert!(disk.read(15, 1024) == [vec![1; 512], vec![2; 512]].concat());
    assert!(disk.read(39, 512) == vec![3; 512]);
}

#[test]
fn reads_into_many_pieces() {
    let mut disk = Disk::root();
    let places: Vec<u64> = (0..100).map(|_| disk.guest.allocate(32)).collect();
    let mut pieces: Vec<Buffer> = places.iter().map(|place| Buffer::Writable(*place, 5)).collect();
    let last = disk.guest.allocate(12);
    pieces.push(Buffer::Writable(last, 12));
    assert_eq!(disk.request(VIRTIO_BLK_T_IN, 16, &pieces), (OK, 513));
    assert!(places.iter().all(|place| disk.guest.read(*place, 6) == [2, 2, 2, 2, 2, 0]));
    assert_eq!(disk.guest.read(last, 12), [2; 12]);
}

#[test]
fn serves_indirect_chains_and_a_status_at_the_end_of_the_data() {
    let mut disk = Disk::root();
    let header = disk.header(VIRTIO_BLK_T_IN, 16);
    let place = disk.guest.store(&[UNTOUCHED; 513]);
    disk.guest.add_indirect(0, &[header, Buffer::Writable(place, 513)]);
    disk.guest.kick(&mut disk.device, 0).unwrap();
    assert_eq!(disk.guest.take_used(0).unwrap().1, 513);
    assert!(disk.guest.read(place, 513) == [vec![2; 512], vec![OK]].concat());
}

#[test]
fn writes_and_flushes() {
    let mut disk = Disk::scratch(8192, 7);
    assert_eq!(disk.write(1, &[5; 512]), OK);
    assert_eq!(disk.request(VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    let expected = [vec![7; 512], vec![5; 512], vec![7; 7168]].concat();
    assert!(disk.read(0, 8192) == expected);
    let mut bytes = vec![0; 8192];
    disk.scratch_file().read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == expected);
}

#[test]
fn refuses_what_is_not_on_the_disk() {
    let mut disk = Disk::scratch(8192, 7);
    let place = disk.guest.allocate(1024);
    for (sector, length) in [(16, 512), (15, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (0, 511), (0, 1)]
    {
        for (kind, data) in [
            (VIRTIO_BLK_T_IN, Buffer::Writable(place, length)),
            (VIRTIO_BLK_T_OUT, Buffer::Readable(place, length)),
        ] {
            assert_eq!(disk.request(kind, sector, &[data]), (IOERR, 1), "{kind} {sector} {length}");
        }
    }
    assert!(disk.read(0, 8192) == vec![7; 8192]);
}

#[test]
fn refuses_changes_of_a_read_only_disk() {
    let mut disk = Disk::root();
    assert_ne!(disk.device.features() & (1 << VIRTIO_BLK_F_RO), 0);
    assert_eq!(disk.write(0, &[5; 512]), IOERR);
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        let range = disk.range(0, 8, 0);
        assert_eq!(disk.request(kind, 0, &[range]).0, IOERR);
    }
    assert!(disk.read(0, 512) == vec![1; 512]);
    assert_eq!(fs::read(disk.directory.path().join("first")).unwrap()[4096], 1);
}

#[test]
fn tells_its_name_and_refuses_unknown_types() {
    let mut disk = Disk::root();
    let place = disk.guest.allocate(20);
    assert_eq!(disk.request(VIRTIO_BLK_T_GET_ID, 0, &[Buffer::Writable(place, 20)]), (OK, 21));
    assert_eq!(disk.guest.read(place, 20), b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(disk.request(99, 0, &[]), (UNSUPP, 1));
}

#[test]
fn discards_and_zeroes() {
    let length = 1 << 20;
    let mut disk = Disk::scratch(length, 7);
    let blocks = disk.scratch_file().metadata().unwrap().blocks();
    let ranges = [disk.range(0, 1024, 0), disk.range(1024, 512, 0)];
    assert_eq!(disk.request(VIRTIO_BLK_T_DISCARD, 0, &ranges).0, OK);
    assert!(disk.scratch_file().metadata().unwrap().blocks() < blocks);
    for (sector, flags) in [(1536, 0), (1600, 1)] {
        let range = disk.range(sector, 64, flags);
        assert_eq!(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &[range]).0, OK);
        assert!(disk.read(sector, 64 * 512) == vec![0; 64 * 512]);
    }
    assert!(disk.read(1664, 512) == vec![7; 512]);
    assert_eq!(disk.scratch_file().metadata().unwrap().len(), length as u64);
}

#[test]
fn refuses_ranges_that_cannot_be() {
    let mut disk = Disk::scratch(8192, 7);
    for (sector, sectors, flags, status) in [
        (16, 1, 0, IOERR),
        (0, 17, 0, IOERR),
        (u64::MAX, 1, 0, IOERR),
        (0, u32::MAX, 0, IOERR),
        (0, 1, 2, UNSUPP),
    ] {
        let range = disk.range(sector, sectors, flags);
        assert_eq!(disk.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &[range]).0, status);
    }
    let unmap = disk.range(0, 1, 1);
    assert_eq!(disk.request(VIRTIO_BLK_T_DISCARD, 0, &[unmap]).0, UNSUPP);
    assert_eq!(disk.request(VIRTIO_BLK_T_DISCARD, 0, &[]).0, IOERR);
    let ranges: Vec<Buffer> = (0..65).map(|_| disk.range(0, 1, 0)).collect();
    assert_eq!(disk.request(VIRTIO_BLK_T_DISCARD, 0, &ranges).0, IOERR);
    assert!(disk.read(0, 8192) == vec![7; 8192]);
}

#[test]
fn gives_malformed_chains_back() {
    let mut disk = Disk::root();
    let place = disk.guest.allocate(512);
    let header = disk.header(VIRTIO_BLK_T_IN, 0);
    for chain in [
        vec![header],
        vec![header, Buffer::Readable(place, 512)],
        vec![header, Buffer::Writable(place, 512), Buffer::Readable(place, 1)],
        vec![header, Buffer::Writable(1 << 40, 512), Buffer::Writable(place, 1)],
        vec![header, Buffer::Writable(u64::MAX - 5, 512), Buffer::Writable(place, 1)],
        vec![header, Buffer::Writable(place, 0)],
    ] {
        let head = disk.guest.add(0, &chain);
        disk.guest.kick(&mut disk.device, 0).unwrap();
        assert_eq!(disk.guest.take_used(0), Some((head, 0)), "{chain:?}");
    }
    // A header that is too short is answered, for there is a status byte.
    let Buffer::Readable(address, _) = header else { unreachable!() };
    disk.guest.add(0, &[Buffer::Readable(address, 15), Buffer::Writable(place, 1)]);
    disk.guest.kick(&mut disk.device, 0).unwrap();
    assert_eq!((disk.guest.take_used(0).unwrap().1, disk.guest.read(place, 1)[0]), (1, IOERR));

    let head = disk.guest.add_loop(0);
    disk.guest.kick(&mut disk.device, 0).unwrap();
    assert_eq!(disk.guest.take_used(0), Some((head, 0)));

    disk.guest.set_descriptor(0, 100, place, 16, NEXT | WRITE, 4000);
    disk.guest.offer(0, 100);
    disk.guest.kick(&mut disk.device, 0).unwrap();
    assert_eq!(disk.guest.take_used(0), Some((100, 0)));

    disk.guest.offer(0, 4000);
    assert!(
        disk.guest.kick(&mut disk.device, 0).is_err(),
        "a head that is not in the table breaks the queue"
    );
}

#[test]
fn reports_the_hosts_failures_as_io_errors() {
    // Reading and writing of a scratch disk that somebody truncated.
    let mut disk = Disk::scratch(8192, 7);
    fs::OpenOptions::new()
        .write(true)
        .open(disk.directory.path().join("scratch"))
        .and_then(|file| file.set_len(512))
        .unwrap();
    assert!(disk.read(0, 1024) == [vec![7; 512], vec![0; 512]].concat());
    assert_eq!(disk.write(1, &[5; 512]), OK);
}

#[test]
fn refuses_disks_that_cannot_be() {
    let directory = TempDir::new().unwrap();
    let (empty, missing) = (directory.path().join("empty"), directory.path().join("missing"));
    File::create(&empty).unwrap();
    assert_eq!(
        BlockDevice::from_file("x", &empty).unwrap_err().to_string(),
        "a disk of 0 bytes is not possible"
    );
    assert!(BlockDevice::from_file("x", &missing).unwrap_err().to_string().starts_with("cannot open "));
    assert!(BlockDevice::from_file("x", directory.path()).is_err());
    assert!(BlockDevice::from_extents("x", &[]).is_err());
    let extent = Extent { file: empty, offset: u64::MAX - 4095, length: 8192 };
    assert!(BlockDevice::from_extents("x", &[extent.clone(), extent]).is_err());
}
