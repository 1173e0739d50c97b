//! Defects of vox-shm and its relatives that must not exist here: one test per defect, each in the
//! situation that shows it there. `docs/known-defects.md` lists them all.

mod defects;

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use defects::{
    Directory, NOW, code, forge, geometry, header, open, page_faults, peek, poke, slots,
    this_thread, until_asleep, word,
};
use shmslot::{AttachOptions, Code, CreateOptions, IfOrphaned, Policy, Segment};

/// There a reader that had drained everything while the writer wrapped got old bytes a second time.
#[test]
fn vox_ring_wrap_race() {
    for slot_count in [1, 2, 3, 4] {
        const SAMPLES: u64 = 10_000;
        let options = CreateOptions { policy: Some(Policy::Block), ..slots(slot_count) };
        let segment = Segment::create_local(&options).expect("create");
        std::thread::scope(|scope| {
            let reader = segment.reader(0).expect("reader");
            scope.spawn(|| {
                let writer = segment.writer().expect("writer");
                for count in 1..=SAMPLES {
                    assert_eq!(writer.write(&count.to_le_bytes(), None).expect("write"), count);
                }
            });
            for count in 1..=SAMPLES {
                reader.wait(None).expect("samples come");
                let sample = reader.read().expect("read").expect("a sample");
                assert_eq!(
                    (sample.sequence(), sample.to_vec()),
                    (count, count.to_le_bytes().to_vec())
                );
            }
            assert!(reader.read().expect("read").is_none());
        });
    }
}

/// A segment with two unread samples, its file, and the offset of the first one's line.
fn two_samples(directory: &Directory) -> (Segment, std::fs::File, u64) {
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(4)).expect("create");
    let file = open(&name);
    let (geometry, offsets) = geometry(&file);
    // Sequence 1 has its home in the line of this number, and a new segment puts it there.
    let line = offsets.lines + u64::from(1 % geometry.slot_count) * shmslot::layout::SLOT_LINE_SIZE;
    (segment, file, line)
}

/// There a slot number from shared memory was an index: a panic, or a pointer outside the pool.
#[test]
fn vox_slot_ref_out_of_bounds() {
    let directory = Directory::new();
    let (segment, file, line) = two_samples(&directory);
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    writer.write(b"first", NOW).expect("write");
    let entry = line + word("line.entry");
    let sound = peek(&file, entry);
    assert_eq!(sound >> 24, 1, "the entry of sequence 1");
    for slot in [4, 5, 1000, (1 << 24) - 1] {
        poke(&file, entry, &(1u64 << 24 | slot).to_le_bytes());
        assert_eq!(code(reader.read()), Code::Corrupt);
        assert_eq!(code(reader.peek_latest()), Code::Corrupt);
        let reference = segment.reference().expect("reference");
        assert_eq!(code(reference.next_unread(0)), Code::Corrupt);
    }
    poke(&file, entry, &sound.to_le_bytes());
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"first");
    Segment::unlink(&directory.name("segment")).expect("unlink");
}

/// There a malformed frame counted as "empty": the receiver slept although good frames followed.
#[test]
fn vox_malformed_frame_stalls() {
    let directory = Directory::new();
    let (segment, file, line) = two_samples(&directory);
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    writer.write(b"first", NOW).expect("write");
    writer.write(b"second", NOW).expect("write");

    // An entry that names no slot is an error, and a waiting reader does not sleep over it.
    let entry = line + word("line.entry");
    let sound = peek(&file, entry);
    poke(&file, entry, &(1u64 << 24 | 1000).to_le_bytes());
    assert_eq!(code(reader.wait(None)), Code::Corrupt);
    assert_eq!(code(reader.read()), Code::Corrupt);
    poke(&file, entry, &sound.to_le_bytes());

    // A length that no slot has: that sample is refused, and the next one arrives.
    let extent = line + word("line.extent");
    let length = (1u64 << 33) - 1;
    poke(&file, extent, &(peek(&file, extent) & !length | 65).to_le_bytes());
    reader.wait(None).expect("something is there");
    assert_eq!(code(reader.read()), Code::Corrupt);
    reader.wait(None).expect("a sample is there");
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"second");
    assert!(reader.read().expect("read").is_none());
}

/// There a payload larger than the ring made its commit spin for ever.
#[test]
fn vox_commit_larger_than_ring() {
    for policy in [Policy::Fail, Policy::Block, Policy::DropOldest] {
        let segment = Segment::create_local(&CreateOptions { policy: Some(policy), ..slots(2) })
            .expect("create");
        let writer = segment.writer().expect("writer");
        assert_eq!(code(writer.reserve(65, None)), Code::TooLarge);
        assert_eq!(code(writer.write(&[0; 4096], None)), Code::TooLarge);
        writer.write(&[0; 64], None).expect("as large as a slot");
    }
}

/// There a permit only inspected the ring, and reserved no place in it: its commit had to wait for
/// others.
#[test]
fn vox_permit_is_no_reservation() {
    for policy in [Policy::Fail, Policy::Block, Policy::DropOldest] {
        let segment = Segment::create_local(&CreateOptions { policy: Some(policy), ..slots(4) })
            .expect("create");
        let reader = segment.reader(0).expect("reader");
        let (holder, rival) =
            (segment.writer().expect("writer"), segment.writer().expect("writer"));
        let mut loans: Vec<_> = (0..2).map(|_| holder.reserve(8, NOW).expect("a slot")).collect();
        for loan in &mut loans {
            loan.copy_from(b"promised").expect("it fits");
        }
        // The rival takes all that it can, and the reader marks nothing.
        let _rivals: Vec<_> = std::iter::from_fn(|| rival.reserve(8, NOW).ok()).collect();
        assert_eq!(code(rival.reserve(8, NOW)), Code::NoFreeSlot);
        for loan in loans {
            loan.commit(8).expect("its place is its own");
        }
        for _ in 0..2 {
            assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"promised");
        }
    }
}

/// There a receive and a reserve of one process waited on one socket, and stole each other's
/// wake-up bytes.
#[test]
fn vox_wakes_stolen() {
    let options =
        CreateOptions { policy: Some(Policy::Block), spin: Some(Duration::ZERO), ..slots(2) };
    for data_first in [true, false] {
        let segment = Segment::create_local(&options).expect("create");
        let (writer, keeper) =
            (segment.writer().expect("writer"), segment.reader(0).expect("reader"));
        // One slot is unread by the keeper alone, and the other is on loan: there is neither data
        // nor space.
        writer.write(b"old", NOW).expect("write");
        let loan = writer.reserve(8, NOW).expect("a slot");
        std::thread::scope(|scope| {
            let (segment, (tell, told)) = (&segment, std::sync::mpsc::channel());
            let tell_too = tell.clone();
            let receiving = scope.spawn(move || {
                let reader = segment.reader(0).expect("reader");
                tell.send(this_thread()).expect("heard");
                reader.wait(None)
            });
            let receiver = told.recv().expect("it tells");
            let reserving = scope.spawn(move || {
                let writer = segment.writer().expect("writer");
                tell_too.send(this_thread()).expect("heard");
                writer.wait_space(None)
            });
            let reserver = told.recv().expect("it tells");
            until_asleep(&receiver);
            until_asleep(&reserver);
            let give_data = || assert_eq!(loan.commit(8).expect("commit"), 2);
            let give_space = || drop(keeper.read().expect("read").expect("the old sample"));
            if data_first {
                give_data();
                receiving.join().expect("no panic").expect("a sample");
                until_asleep(&reserver);
                give_space();
                reserving.join().expect("no panic").expect("space");
            } else {
                give_space();
                reserving.join().expect("no panic").expect("space");
                until_asleep(&receiver);
                give_data();
                receiving.join().expect("no panic").expect("a sample");
            }
        });
    }
}

/// There a payload's part of a pool had any alignment, 4 bytes after its slot.
#[test]
fn vox_no_alignment() {
    let segment =
        Segment::create_local(&CreateOptions { slot_capacity: 1000, ..slots(8) }).expect("create");
    let writer = segment.writer().expect("writer");
    let mut loans: Vec<_> =
        [1, 3, 1000, 7, 0, 999, 13, 2].map(|len| writer.reserve(len, NOW).expect("a slot")).into();
    for loan in &mut loans {
        assert_eq!(loan.as_mut_ptr().addr() % 64, 0);
    }
}

/// There offset + len was not checked, and the largest length of all fitted.
#[test]
fn vox_alloc_overflow() {
    let segment = Segment::create_local(&slots(2)).expect("create");
    let writer = segment.writer().expect("writer");
    for len in [65, u32::MAX as usize, 1 << 33, usize::MAX - 63, usize::MAX] {
        assert_eq!(code(writer.reserve(len, NOW)), Code::TooLarge);
        let loan = writer.reserve(64, NOW).expect("a slot");
        assert_eq!(code(loan.commit(len)), Code::BadLength);
    }
    let options = CreateOptions { slot_capacity: 1 << 32, ..slots(1 << 24) };
    assert_eq!(code(Segment::create_anonymous(&options)), Code::NoMemory);
    assert_eq!(
        code(Segment::create_local(&CreateOptions { slot_capacity: u64::MAX, ..options })),
        Code::BadOptions
    );
}

/// There each payload lay in pages that nobody had touched: the first fill of 1 MiB cost forty
/// times the second.
#[test]
fn vox_fresh_pages() {
    let options = CreateOptions { slot_capacity: 1 << 16, prefault: true, ..slots(64) };
    let segment = Segment::create_anonymous(&options).expect("create");
    let attached = Segment::attach_fd(segment.fd().expect("it has one"), &AttachOptions::default())
        .expect("attach");
    let (writer, reader) = (segment.writer().expect("writer"), attached.reader(0).expect("reader"));
    let bytes = vec![1; 1 << 16];
    let mut copy = vec![0; 1 << 16];
    let round = |copy: &mut [u8]| {
        writer.write(&bytes, NOW).expect("write");
        assert_eq!(reader.read().expect("read").expect("a sample").copy_to(copy), 1 << 16);
    };
    round(&mut copy); // the stack, the private copies, the code
    let before = page_faults();
    for _ in 0..100 {
        round(&mut copy);
    }
    let touched = page_faults() - before;
    assert!(touched < 100, "{touched} new pages in 100 rounds of 16 pages, through all slots");
}

/// There the length in a message was trusted: SIGBUS after the end of the file.
#[test]
fn vox_length_not_checked_sigbus() {
    let directory = Directory::new();
    let name = directory.name("segment");
    drop(Segment::create(&name, &slots(64)).expect("create"));
    let file = open(&name);
    let size = file.metadata().expect("facts").len();
    for cut in [size - 1, size - 4096, 4096, 512] {
        file.set_len(cut).expect("a file of one's own");
        assert_eq!(
            code(Segment::attach(&name, &AttachOptions::default())),
            Code::Truncated,
            "{cut} of {size}"
        );
    }
    let (_, offsets) = geometry(&file);
    file.set_len(size).expect("a file of one's own");
    forge(&file, "total_size", offsets.total + 4096);
    assert_eq!(code(Segment::attach(&name, &AttachOptions::default())), Code::Corrupt);
}

/// There a peer that disconnected in good order kept its place permanently.
#[test]
fn vox_detach_leaks_peer_slot() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let options =
        CreateOptions { max_readers: 2, max_participants: 3, single_writer: true, ..slots(2) };
    let segment = Segment::create(&name, &options).expect("create");
    for count in 1..=100 {
        let attached =
            Segment::attach(&name, &AttachOptions::default()).expect("a place as participant");
        let writer = attached.writer().expect("the writer's place");
        let readers = [(); 2].map(|()| attached.reader(0).expect("a place as reader"));
        assert_eq!(code(attached.reader(0)), Code::NoReaderSlot);
        assert_eq!(writer.write(b"x", NOW).expect("write"), count);
        drop(writer.reserve(8, NOW).expect("the other slot"));
        // One leaves with an unread sample, one with a held one.
        let in_hand = readers[0].read().expect("read").expect("a sample").into_owned();
        drop((readers, writer, attached));
        drop(in_hand);
    }
    drop(segment);
}

/// There create truncated the file of attached processes: SIGBUS. And it followed symbolic links.
#[test]
fn vox_create_truncates_live_segment() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(4)).expect("create");
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    for if_orphaned in [IfOrphaned::Replace, IfOrphaned::Adopt, IfOrphaned::Refuse] {
        assert_eq!(
            code(Segment::create(&name, &CreateOptions { if_orphaned, ..slots(9) })),
            Code::Exists
        );
    }
    assert_eq!(code(Segment::open(&name, &slots(9))), Code::OptionsMismatch);
    let (opened, created) = Segment::open(&name, &slots(4)).expect("open");
    assert!(!created);
    writer.write(b"alive", NOW).expect("write");
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"alive");
    drop(opened);

    let link = directory.name("link");
    std::os::unix::fs::symlink(directory.name("elsewhere"), &link).expect("a dangling link");
    Segment::create(&link, &slots(4)).expect_err("a link is no name for a segment");
    Segment::open(&link, &slots(4)).expect_err("nor here");
    assert_eq!(directory.files(), 2, "nothing was made where the link points");
}

/// There wrong offsets in the header caused a panic.
#[test]
fn vox_attach_panics() {
    let directory = Directory::new();
    let name = directory.name("segment");
    drop(Segment::create(&name, &slots(4)).expect("create"));
    let file = open(&name);
    let sound = header(&file);
    let sized = ["total_size", "control_size", "payload_offset", "payload_stride", "slot_capacity"];
    let counted = [
        "slot_count",
        "payload_align",
        "user_header_size",
        "max_readers",
        "max_participants",
        "history",
    ];
    for field in sized.into_iter().chain(counted) {
        for value in [u64::MAX, 1 << 63, (1 << 63) - 1, u64::from(u32::MAX), 1 << 31] {
            // In a field of four bytes these may become 0, which is valid for some.
            forge(&file, field, value);
            if header(&file) != sound {
                assert_eq!(
                    code(Segment::attach(&name, &AttachOptions::default())),
                    Code::Corrupt,
                    "{field}"
                );
            }
            poke(&file, 0, &sound);
        }
    }
    Segment::attach(&name, &AttachOptions::default()).expect("restored, it is sound");
}

/// There a number of guests was cut to a byte.
#[test]
fn vox_max_guests_cut() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let options = CreateOptions { max_participants: 300, ..slots(4) };
    let segment = Segment::create(&name, &options).expect("create");
    let others: Vec<Segment> = (1..300)
        .map(|_| Segment::attach(&name, &AttachOptions::default()).expect("one of 300"))
        .collect();
    assert_eq!(code(Segment::attach(&name, &AttachOptions::default())), Code::NoParticipantSlot);
    // The last of them is distinct: its loans are not those of participant 299 - 256.
    let writers: Vec<_> = others.iter().map(|other| other.writer().expect("writer")).collect();
    let ids: std::collections::BTreeSet<u32> = writers.iter().map(|writer| writer.id()).collect();
    assert_eq!(ids.len(), 299);
    let loan = writers[298].reserve(8, NOW).expect("a slot");
    drop(segment);
    loan.commit(8).expect("its own loan");
}

/// There capacities were read from shared memory at each use.
#[test]
fn vox_capacity_reread() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(2)).expect("create");
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    let file = open(&name);
    for capacity in [1, 1 << 20, u64::MAX] {
        forge(&file, "slot_capacity", capacity);
        forge(&file, "payload_stride", capacity);
        assert_eq!(code(writer.reserve(65, NOW)), Code::TooLarge);
        writer.write(&[7; 64], NOW).expect("the old capacity");
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [7; 64]);
    }
}

/// There every child inherited the doorbell, so a dead guest seemed to live on in its siblings.
#[test]
fn vox_doorbell_inherited() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(2)).expect("create");
    let attached = Segment::attach_fd(
        Segment::create_anonymous(&slots(2)).expect("create").fd().expect("it has one"),
        &AttachOptions::default(),
    )
    .expect("attach");
    // A program that outlives the attachment. It lists what it has inherited, and waits until its
    // input ends.
    let mut child = Command::new("sh")
        .args(["-c", "readlink /proc/$$/fd/*; echo; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut listed = Vec::new();
    let mut output = child.stdout.take().expect("a pipe");
    while !listed.ends_with(b"\n\n") {
        let mut byte = [0];
        output.read_exact(&mut byte).expect("the list ends");
        listed.extend(byte);
    }
    let listed = String::from_utf8(listed).expect("text");
    assert!(!listed.contains("shmslot"), "inherited: {listed}");
    drop((segment, attached));
    let replace = CreateOptions { if_orphaned: IfOrphaned::Replace, ..slots(2) };
    Segment::create(&name, &replace).expect("nobody is attached any more");
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}

/// There an inline length had 16 bits, and payloads above 64 KiB were cut silently.
#[test]
fn vox_inline_length_cut() {
    let segment = Segment::create_anonymous(&CreateOptions { slot_capacity: 1 << 20, ..slots(2) })
        .expect("create");
    let attached =
        Segment::attach_fd(segment.fd().expect("it has one").as_fd(), &AttachOptions::default())
            .expect("attach");
    let (writer, reader) = (segment.writer().expect("writer"), attached.reader(0).expect("reader"));
    for len in [0xffff, 0x1_0000, 0x1_0001, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
        writer.write(&bytes, NOW).expect("write");
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), bytes);
    }
}
