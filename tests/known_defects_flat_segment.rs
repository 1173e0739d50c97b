//! Defects of zerodds-flatdata that must not exist here, in how a segment is made, attached to and
//! laid out: one test per defect, each in the situation that shows it there.
//! `docs/known-defects.md` lists them all.

mod defects;

use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use defects::{Directory, NOW, code, forge, geometry, header, open, page_faults, poke, slots};
use shmslot::{AttachOptions, Code, CreateOptions, Segment};

/// There attach trusted the number and size of slots: SIGSEGV, or gigabytes of private memory.
#[test]
fn flat_attach_trusts_header() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(4)).expect("create");
    let file = open(&name);
    let sound = header(&file);
    let (geometry, offsets) = geometry(&file);
    for count in [0, 1000, 1 << 20, 1 << 24, u32::MAX] {
        forge(&file, "slot_count", count.into());
        assert_eq!(
            code(Segment::attach(&name, &AttachOptions::default())),
            Code::Corrupt,
            "slot_count {count}"
        );
        poke(&file, 0, &sound);
    }
    for stride in [0, 1, 13, offsets.payload_stride + 64, 1 << 40, u64::MAX] {
        forge(&file, "payload_stride", stride);
        assert_eq!(
            code(Segment::attach(&name, &AttachOptions::default())),
            Code::Corrupt,
            "stride {stride}"
        );
        poke(&file, 0, &sound);
    }

    // A consistent header of a segment larger than the file.
    let larger = shmslot::layout::Geometry { slot_count: 1 << 20, ..geometry };
    poke(&file, 0, &larger.encode(&larger.offsets().expect("it fits the address space")));
    assert_eq!(code(Segment::attach(&name, &AttachOptions::default())), Code::Truncated);

    // An attached process does not read it again.
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    for count in 0..12u8 {
        writer.write(&[count], NOW).expect("write");
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [count]);
    }
    let loans: Vec<_> = (0..4).map(|_| writer.reserve(64, NOW).expect("four slots")).collect();
    assert_eq!(code(writer.reserve(1, NOW)), Code::NoFreeSlot);
    drop(loans);
}

/// There a slot size of 13 was accepted, and atomics were used at odd addresses.
#[test]
fn flat_attach_misaligned() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(4)).expect("create");
    drop(segment);
    let file = open(&name);
    let sound = header(&file);
    let (_, offsets) = geometry(&file);
    let cases = [
        ("total_size", 13),
        ("total_size", offsets.total + 1),
        ("control_size", offsets.control_size + 4),
        ("payload_offset", offsets.payload + 1),
        ("payload_stride", 13),
        ("payload_align", 13),
        ("payload_align", 1),
        ("header_size", 13),
    ];
    for (field, value) in cases {
        forge(&file, field, value);
        assert_eq!(
            code(Segment::attach(&name, &AttachOptions::default())),
            Code::Corrupt,
            "{field} = {value}"
        );
        poke(&file, 0, &sound);
    }
    Segment::attach(&name, &AttachOptions::default()).expect("restored, it is sound");
}

/// There any process of the user could truncate the object while others used it: SIGBUS.
#[test]
fn flat_truncate_sigbus() {
    let segment = Segment::create_anonymous(&slots(4)).expect("create");
    let fd = segment.fd().expect("it has one");
    let file = open(&format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let size = file.metadata().expect("facts").len();
    for other in [0, 4096, size - 1, size + 1] {
        let error = file.set_len(other).expect_err("it is sealed");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    writer.write(b"whole", NOW).expect("write");
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"whole");

    // A file that can still be truncated is not accepted by descriptor.
    let directory = Directory::new();
    let name = directory.name("segment");
    let named = Segment::create(&name, &slots(4)).expect("create");
    let fd = named.fd().expect("it has one");
    assert_eq!(code(Segment::attach_fd(fd, &AttachOptions::default())), Code::NotSealed);
}

/// There slots began at 0x20: payloads straddled cache lines, shared them with headers, and were
/// misaligned for types of 32 bytes.
#[test]
fn flat_payload_alignment() {
    for (align, capacity) in [(64, 1), (64, 65), (64, 112), (128, 100), (4096, 5000)] {
        let options = CreateOptions {
            slot_capacity: capacity,
            payload_align: align,
            user_header_size: 3,
            ..slots(5)
        };
        let segment = Segment::create_local(&options).expect("create");
        let (reader, writer) =
            (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
        let mut loans: Vec<_> = (0..5).map(|_| writer.reserve(1, NOW).expect("a slot")).collect();
        let mut lines = std::collections::BTreeSet::new();
        for loan in &mut loans {
            let payload = loan.as_mut_ptr().addr();
            assert_eq!(payload % align as usize, 0);
            let last = payload + capacity as usize - 1;
            for line in payload / 64..=last / 64 {
                assert!(lines.insert(line), "two payloads share a cache line");
            }
            assert!(
                lines.insert(loan.user_header().addr() / 64),
                "so do a payload and a user header"
            );
        }
        for loan in loans {
            loan.commit(1).expect("commit");
        }
        while let Some(sample) = reader.read().expect("read") {
            assert_eq!(sample.as_ptr().addr() % align as usize, 0);
        }
    }
}

/// There create zeroed, and so touched, every page: 61 ms for 64 MiB.
#[test]
fn flat_create_touches_pages() {
    let options = CreateOptions { slot_capacity: 1 << 20, ..slots(64) };
    let faults = |options: &CreateOptions| {
        let before = page_faults();
        let segment = Segment::create_anonymous(options).expect("create");
        (page_faults() - before, segment)
    };
    let (few, segment) = faults(&options);
    let (many, _prefaulted) = faults(&CreateOptions { prefault: true, ..options.clone() });
    assert!(few * 4 < many, "{few} pages touched, {many} when asked for");
    // They are allocated anyway: memory that the file system has given cannot run out later.
    let fd = segment.fd().expect("it has one");
    let facts = std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("it is open");
    assert!(facts.blocks() * 512 >= 64 << 20);
}

/// There a full file system was a SIGBUS inside create.
#[test]
fn flat_create_on_full_filesystem() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let options = CreateOptions { slot_capacity: 1 << 32, ..slots(1 << 20) };
    assert_eq!(code(Segment::create(&name, &options)), Code::NoMemory);
    assert_eq!(directory.files(), 0);
    assert_eq!(code(Segment::create_anonymous(&options)), Code::NoMemory);
}

/// There the creator of 65 bytes had 65, and an attacher 112.
#[test]
fn flat_capacity_mismatch() {
    let directory = Directory::new();
    for capacity in [1u64, 65, 112, 4095, 4097] {
        let name = directory.name("segment");
        let owner = Segment::create(&name, &CreateOptions { slot_capacity: capacity, ..slots(2) })
            .expect("create");
        let attached = Segment::attach(&name, &AttachOptions::default()).expect("attach");
        for segment in [owner, attached] {
            let writer = segment.writer().expect("writer");
            assert_eq!(
                writer.reserve(capacity as usize, NOW).expect("it fits").reserved(),
                capacity as usize
            );
            assert_eq!(code(writer.reserve(capacity as usize + 1, NOW)), Code::TooLarge);
            let reference = segment.reference().expect("reference");
            let slot = reference.reserve(0).expect("a slot");
            assert_eq!(reference.data_ptr(slot).expect("on loan").1, capacity as usize);
            assert_eq!(
                code(reference.commit_in_place(slot, capacity as usize + 1)),
                Code::BadLength
            );
            reference.discard(slot).expect("discard");
        }
        Segment::unlink(&name).expect("unlink");
    }
}

/// There reader 32 marked for reader 0.
#[test]
fn flat_reader_index_aliases() {
    let segment =
        Segment::create_local(&CreateOptions { max_readers: 63, ..slots(1) }).expect("create");
    let reference = segment.reference().expect("reference");
    let all = (1u64 << 63) - 1;
    let slot = reference.reserve(all).expect("a slot");
    reference.commit_copy(slot, b"x").expect("commit");
    for index in [63, 64, 95, 96, 127, u32::MAX] {
        assert_eq!(code(reference.mark_read(slot, index)), Code::BadIndex);
        assert_eq!(code(reference.next_unread(index)), Code::BadIndex);
        assert_eq!(code(reference.mark_reader_disconnected(index)), Code::BadIndex);
    }
    let mut unread = all;
    for index in (0..63).rev() {
        assert_eq!(reference.header(slot).expect("header").unread, unread);
        reference.mark_read(slot, index).expect("it was unread");
        unread &= !(1 << index);
    }
    reference.reserve(all).expect("all have read");
    assert_eq!(code(reference.reserve(1 << 63)), Code::BadIndex);

    let few = Segment::create_local(&CreateOptions { max_readers: 3, ..slots(1) }).expect("create");
    let reference = few.reference().expect("reference");
    assert_eq!(code(reference.reserve(1 << 3)), Code::BadIndex);
    assert_eq!(code(reference.next_unread(3)), Code::BadIndex);
}

/// The access that the kernel gives this process at an address.
fn permissions(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel tells");
    let line = maps.lines().find(|line| {
        let (start, rest) = line.split_once('-').expect("a range");
        let (end, _) = rest.split_once(' ').expect("a range");
        let [start, end] =
            [start, end].map(|text| usize::from_str_radix(text, 16).expect("hexadecimal"));
        (start..end).contains(&address)
    });
    line.expect("it is mapped").split_whitespace().nth(1).expect("permissions").to_owned()
}

/// There readers had the whole segment mapped writable.
#[test]
fn flat_reader_writes_payload() {
    let writing = Segment::create_anonymous(&CreateOptions { user_header_size: 8, ..slots(4) })
        .expect("create");
    let fd = writing.fd().expect("it has one");
    let reading = Segment::attach_fd(fd, &AttachOptions::default()).expect("attach");
    let reader = reading.reader(0).expect("reader");
    let writer = writing.writer().expect("writer");
    let mut loan = writer.reserve(1, NOW).expect("a slot");
    assert_eq!(permissions(loan.as_mut_ptr().addr()), "rw-s");
    loan.commit(1).expect("commit");
    let sample = reader.read().expect("read").expect("a sample");
    assert_eq!(permissions(sample.as_ptr().addr()), "r--s");
    assert_eq!(permissions(sample.user_header().addr()), "r--s");
}

/// There no type was compared between processes, and a mismatch was reported as a sample too large.
#[test]
fn flat_schema_mismatch() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let typed =
        |first| CreateOptions { type_hash: [first; 16], type_name: "Pose".into(), ..slots(2) };
    let segment = Segment::create(&name, &typed(1)).expect("create");
    let wanted = |first| AttachOptions { type_hash: [first; 16], ..AttachOptions::default() };
    assert_eq!(code(Segment::attach(&name, &wanted(2))), Code::TypeMismatch);
    assert_eq!(code(Segment::open(&name, &typed(2))), Code::TypeMismatch);
    let mut almost = wanted(1);
    almost.type_hash[15] ^= 1;
    assert_eq!(code(Segment::attach(&name, &almost)), Code::TypeMismatch);
    Segment::attach(&name, &wanted(1)).expect("the same type");
    let by_name = |name: &str| AttachOptions { type_name: name.into(), ..AttachOptions::default() };
    assert_eq!(code(Segment::attach(&name, &by_name("Pos"))), Code::TypeMismatch);
    Segment::attach(&name, &by_name("Pose")).expect("the same name");
    Segment::attach(&name, &AttachOptions::default()).expect("who asks for none takes any");
    drop(segment);
}
