//! Defects of zerodds-flatdata that must not exist here, in how samples go from writers to readers:
//! one test per defect, each in the situation that shows it there. `docs/known-defects.md` lists
//! them all.
#![allow(unsafe_code)]

mod defects;

use std::os::fd::AsRawFd as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use defects::{
    Directory, NOW, Peer, await_go, code, open, page_faults, poke, role, say, slots, this_thread,
    until_asleep, word,
};
use shmslot::{AttachOptions, Code, CreateOptions, Policy, Ref, Reference, Segment};

fn read_ref(reference: &Reference, sample: Ref) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    // SAFETY: the caller has not marked it, and each reserve names its reader.
    let header = unsafe { reference.read_copy(sample, &mut bytes) }.expect("it is published");
    bytes.truncate(header.len as usize);
    bytes
}

/// There a second commit changed the bytes under a reader, and an old handle worked again.
#[test]
fn flat_commit_without_loan() {
    let segment = Segment::create_local(&slots(1)).expect("create");
    let (reader, reference) =
        (segment.reader(0).expect("reader"), segment.reference().expect("reference"));
    let refused = |used: Ref| {
        assert_eq!(code(reference.commit_copy(used, b"OTHER")), Code::Stale);
        assert_eq!(code(reference.commit_in_place(used, 5)), Code::Stale);
        assert_eq!(code(reference.data_ptr(used)), Code::Stale);
        assert_eq!(code(reference.discard(used)), Code::Stale);
    };
    let first = reference.reserve(0).expect("a slot");
    reference.commit_copy(first, b"first").expect("commit");
    let sample = reader.read().expect("read").expect("a sample");
    refused(first);
    assert_eq!(sample.to_vec(), b"first");
    drop(sample);

    // The slot in its next generation, on loan and then published.
    let second = reference.reserve(0).expect("the only slot");
    refused(first);
    reference.commit_copy(second, b"second").expect("commit");
    refused(first);
    assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), b"second");
}

/// There loans were flags in private memory.
#[test]
fn flat_two_processes_one_slot() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(8)).expect("create");
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    let mut peer = Peer::ready("loan four", &name);
    let mut loans: Vec<_> =
        (0..4).map(|_| writer.reserve(64, NOW).expect("half are left")).collect();
    assert_eq!(code(writer.reserve(64, NOW)), Code::NoFreeSlot);
    for loan in &mut loans {
        loan.copy_from(&[b'h'; 64]).expect("it fits");
    }
    peer.go();
    peer.finish();
    for loan in loans {
        loan.commit(64).expect("commit");
    }
    for byte in *b"tttthhhh" {
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [byte; 64]);
    }
}

#[test]
fn peer() {
    let Some((role, name)) = role() else { return };
    assert_eq!(role, "loan four");
    let segment = Segment::attach(&name, &AttachOptions::default()).expect("attach");
    let writer = segment.writer().expect("writer");
    let mut loans: Vec<_> = (0..4).map(|_| writer.reserve(64, NOW).expect("a slot")).collect();
    for loan in &mut loans {
        loan.copy_from(&[b't'; 64]).expect("it fits");
    }
    say("ready");
    await_go();
    for loan in loans {
        loan.commit(64).expect("commit");
    }
}

/// Ends the other thread of a test, even if this one fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Commits 1, 2, 3 and so on for reader 0, as fast as it reads them, until the end.
fn commit_for_reader_0(segment: &Segment, done: &AtomicBool) {
    let reference = segment.reference().expect("reference");
    let mut count = 0u64;
    while !done.load(Ordering::Relaxed) {
        match reference.reserve(1) {
            Ok(slot) => {
                count += 1;
                reference.commit_copy(slot, &count.to_le_bytes()).expect("commit");
            }
            Err(error) => {
                assert_eq!(error.code(), Code::NoFreeSlot);
                std::thread::yield_now();
            }
        }
    }
}

fn next_for_reader_0(reference: &Reference) -> Ref {
    loop {
        match reference.next_unread(0).expect("an answer") {
            Some(sample) => return sample,
            None => std::thread::yield_now(),
        }
    }
}

/// There a commit ended with a plain store of the whole mask: it erased a mark made meanwhile, and
/// the sample arrived twice.
#[test]
fn flat_mark_erased_by_commit() {
    let segment = Segment::create_local(&slots(2)).expect("create");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| commit_for_reader_0(&segment, &done));
        let _done = Done(&done);
        let reference = segment.reference().expect("reference");
        for count in 1..=50_000u64 {
            let sample = next_for_reader_0(&reference);
            assert_eq!(read_ref(&reference, sample), count.to_le_bytes());
            reference.mark_read(sample, 0).expect("it was unread");
        }
    });
}

/// There a mark named only the slot: a late one acknowledged the sample that was in the slot by
/// then.
#[test]
fn flat_late_mark_takes_next_sample() {
    let segment = Segment::create_local(&slots(1)).expect("create");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| commit_for_reader_0(&segment, &done));
        let _done = Done(&done);
        let reference = segment.reference().expect("reference");
        let mut sample = next_for_reader_0(&reference);
        for _ in 0..20_000 {
            reference.mark_read(sample, 0).expect("it was unread");
            let marked = sample;
            // All the time until the slot's next sample exists, and once more then.
            let next = loop {
                let next = reference.next_unread(0).expect("an answer");
                assert_eq!(code(reference.mark_read(marked, 0)), Code::Stale);
                if let Some(next) = next {
                    break next;
                }
            };
            sample = next;
        }
    });
}

/// There that store also set the bit of a reader that had left, which then blocked the slot
/// permanently.
#[test]
fn flat_leave_erased_by_commit() {
    let segment = Segment::create_local(&slots(4)).expect("create");
    for _ in 0..200 {
        let done = AtomicBool::new(false);
        let mut readers: Vec<_> = (0..15).map(|_| segment.reader(0).expect("reader")).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let writer = segment.writer().expect("writer");
                while !done.load(Ordering::Relaxed) {
                    let _ = writer.write(b"x", NOW);
                }
            });
            let _done = Done(&done);
            // One after another leaves, each time while slots have just been freed and are
            // committed again.
            while let Some(leaving) = readers.pop() {
                for _ in 0..20 {
                    for reader in readers.iter().chain([&leaving]) {
                        drop(reader.read().expect("read"));
                    }
                }
                drop(leaving);
            }
        });
        let writer = segment.writer().expect("writer");
        let loans: Vec<_> =
            (0..4).map(|_| writer.reserve(1, NOW).expect("owed to nobody")).collect();
        drop(loans);
    }
}

/// There the optimiser moved a header's plain load out of the loop that polled it.
#[test]
fn flat_header_load_hoisted() {
    let segment = Segment::create_local(&slots(2)).expect("create");
    let (reader, reference) =
        (segment.reader(0).expect("reader"), segment.reference().expect("reference"));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let reference = segment.reference().expect("reference");
            let slot = reference.reserve(1).expect("a slot");
            reference.commit_copy(slot, b"seen").expect("commit");
        });
        start.wait();
        while reader.read().expect("read").is_none() {}
        while reference.next_unread(0).expect("an answer").is_none() {}
    });
}

/// There samples arrived in the order of their slots: written 1, 2, delivered 2, 1.
#[test]
fn flat_slot_order() {
    let segment = Segment::create_local(&slots(3)).expect("create");
    let (reader, reference) =
        (segment.reader(0).expect("reader"), segment.reference().expect("reference"));
    // Slots are reserved in one order and committed in another, so the order of slots is not that
    // of the samples.
    for round in 0..7u8 {
        let mut loans: Vec<Ref> = (0..3).map(|_| reference.reserve(1).expect("a slot")).collect();
        loans.rotate_left(usize::from(round % 3));
        if round % 2 == 0 {
            loans.swap(0, 1);
        }
        for (count, loan) in (0..).zip(loans) {
            let sequence = reference.commit_copy(loan, &[round, count]).expect("commit");
            assert_eq!(sequence, u64::from(round) * 3 + u64::from(count) + 1);
        }
        for count in 0..3 {
            assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [round, count]);
            let sample = reference.next_unread(0).expect("an answer").expect("a sample");
            assert_eq!(read_ref(&reference, sample), [round, count]);
            reference.mark_read(sample, 0).expect("mark");
        }
    }
}

/// There length 0 meant a free slot.
#[test]
fn flat_empty_sample_lost() {
    let segment = Segment::create_local(&slots(1)).expect("create");
    let (reader, reference) =
        (segment.reader(0).expect("reader"), segment.reference().expect("reference"));
    let empty = reference.reserve(1).expect("a slot");
    assert_eq!(reference.commit_copy(empty, b"").expect("commit"), 1);
    assert_eq!(code(reference.reserve(1)), Code::NoFreeSlot);
    let sample = reader.read().expect("read").expect("an empty sample is one");
    assert!(sample.is_empty() && sample.sequence() == 1);
    drop(sample);
    assert_eq!(code(reference.reserve(1)), Code::NoFreeSlot);
    assert_eq!(reference.next_unread(0).expect("an answer"), Some(empty));
    reference.mark_read(empty, 0).expect("mark");
    reference.reserve(1).expect("now it is free");
}

/// There a reader outside the mask read a slot that was being rewritten, and then acknowledged the
/// new sample unread.
#[test]
fn flat_late_reader_torn() {
    let segment = Segment::create_local(&slots(1)).expect("create");
    let reference = segment.reference().expect("reference");
    let first = reference.reserve(0b01).expect("a slot");
    reference.commit_copy(first, b"first").expect("commit");
    // Reader 1 comes late and tries anyway.
    assert_eq!(reference.next_unread(1).expect("an answer"), None);
    assert_eq!(read_ref(&reference, first), b"first");
    assert_eq!(code(reference.mark_read(first, 1)), Code::Stale);
    reference.mark_read(first, 0).expect("mark");

    let second = reference.reserve(0b11).expect("nobody needs the slot");
    // SAFETY: there is one thread.
    assert_eq!(code(unsafe { reference.read_copy(first, &mut [0; 64]) }), Code::Stale);
    reference.commit_copy(second, b"second").expect("commit");
    // SAFETY: there is one thread.
    assert_eq!(code(unsafe { reference.read_copy(first, &mut [0; 64]) }), Code::Stale);
    assert_eq!(code(reference.mark_read(first, 1)), Code::Stale);
    assert_eq!(reference.next_unread(1).expect("an answer"), Some(second));

    // A reader that joins is in the mask from then on, and gets nothing from before.
    let segment = Segment::create_local(&slots(2)).expect("create");
    let (writer, early) = (segment.writer().expect("writer"), segment.reader(0).expect("reader"));
    writer.write(b"before", NOW).expect("write");
    let late = segment.reader(0).expect("reader");
    assert!(late.read().expect("read").is_none());
    writer.write(b"after", NOW).expect("write");
    assert_eq!(late.read().expect("read").expect("a sample").to_vec(), b"after");
    drop(early.read().expect("read"));
    drop(early.read().expect("read"));
    writer.write(b"more", NOW).expect("both have read");
}

/// There the C interface named no readers, and five samples written into eight slots arrived as
/// one.
#[test]
fn flat_mask_zero_overwrites() {
    let segment = Segment::create_local(&slots(8)).expect("create");
    let (reader, reference) =
        (segment.reader(0).expect("reader"), segment.reference().expect("reference"));
    for count in 0..8u8 {
        let slot = reference.reserve(0).expect("a slot");
        reference.commit_copy(slot, &[count]).expect("commit");
    }
    // A joined reader counts, whether or not it is named.
    assert_eq!(code(reference.reserve(0)), Code::NoFreeSlot);
    assert_eq!(code(segment.writer().expect("writer").write(b"x", NOW)), Code::NoFreeSlot);
    for count in 0..8 {
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [count]);
    }

    // A program that wants overwriting asks for it, and each reader is told what it lost.
    let segment =
        Segment::create_local(&CreateOptions { policy: Some(Policy::DropOldest), ..slots(8) })
            .expect("create");
    let (reader, writer) = (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
    for count in 0..13u8 {
        writer.write(&[count], NOW).expect("the oldest goes");
    }
    for count in 5..13 {
        assert_eq!(reader.read().expect("read").expect("a sample").to_vec(), [count]);
    }
    assert_eq!(reader.lost(), 5);
}

/// Unmaps the pages of a segment's file in this process, so that touching them shows as page
/// faults.
fn forget_pages(segment: &Segment) {
    use std::os::unix::fs::MetadataExt as _;
    let fd = segment.fd().expect("it has one");
    let inode =
        std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("it is open").ino();
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel tells");
    let mut found = 0;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields[4] != inode.to_string() || !line.contains("memfd:shmslot") {
            continue;
        }
        let (start, end) = fields[0].split_once('-').expect("a range");
        let [start, end] =
            [start, end].map(|address| usize::from_str_radix(address, 16).expect("hexadecimal"));
        // SAFETY: a shared mapping of a file: its contents stay in the file and return when they
        // are touched.
        assert_eq!(unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) }, 0);
        found += 1;
    }
    assert!(found > 0, "the mapping is in the list");
}

/// There each reserve, poll and read visited every slot. Here a whole round touches a few pages of
/// a large segment. Closing a writer, which does visit every slot, shows that the measurement can
/// see the difference.
#[test]
fn flat_linear_scans() {
    const SLOTS: u32 = 1 << 18;
    let segment = Segment::create_anonymous(&CreateOptions { slot_capacity: 8, ..slots(SLOTS) })
        .expect("create");
    let (writer, behind) = (segment.writer().expect("writer"), segment.reader(0).expect("reader"));
    for _ in 0..SLOTS / 2 {
        writer.write(b"backlog", NOW).expect("half of the slots");
    }
    let ahead = segment.reader(0).expect("reader");
    forget_pages(&segment);
    let before = page_faults();
    assert!(ahead.read().expect("read").is_none());
    writer.write(b"new", NOW).expect("write");
    assert_eq!(ahead.read().expect("read").expect("a sample").to_vec(), b"new");
    assert_eq!(behind.read().expect("read").expect("a sample").to_vec(), b"backlog");
    let round = page_faults() - before;

    forget_pages(&segment);
    let before = page_faults();
    drop(writer);
    let walk = page_faults() - before;
    assert!(round * 4 < walk, "a round touches {round} places, looking at all slots {walk}");
}

/// There the longest timeout became a negative one, and waits returned at once.
#[test]
fn flat_forever_wait_spins() {
    fn sleeps<T: Send>(wait: impl FnOnce() -> T + Send, wake: impl FnOnce()) -> T {
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let sleeper = scope.spawn(move || {
                tell.send(this_thread()).expect("the other thread listens");
                wait()
            });
            until_asleep(&told.recv().expect("it tells"));
            assert!(!sleeper.is_finished());
            wake();
            sleeper.join().expect("no panic")
        })
    }
    for timeout in [None, Some(Duration::MAX), Some(Duration::from_nanos(i64::MAX as u64))] {
        let segment = Segment::create_local(&CreateOptions {
            policy: Some(Policy::Block),
            spin: Some(Duration::ZERO),
            ..slots(1)
        })
        .expect("create");
        let reader = segment.reader(0).expect("reader");
        let write = || {
            segment.writer().expect("writer").write(b"x", NOW).expect("a slot");
        };
        sleeps(|| segment.reader(0).expect("reader").wait(timeout), write)
            .expect("there is a sample");
        sleeps(|| segment.writer().expect("writer").wait_space(timeout), || drop(reader.read()))
            .expect("there is space");
        let last = segment.generation().expect("generation");
        let new = sleeps(|| segment.wait_for_change(last, timeout), write).expect("a change");
        assert_ne!(new, last);
        drop(reader.read());
    }
}

/// There a sequence had 32 bits, and 2^32 - 1 meant none: after 4 G samples readers received
/// nothing.
#[test]
fn flat_sn_wrap() {
    let directory = Directory::new();
    for policy in [Policy::Fail, Policy::DropOldest] {
        for tail in [(1u64 << 32) - 5, (1 << 33) - 5] {
            let name = directory.name("segment");
            let options = CreateOptions { history: 2, policy: Some(policy), ..slots(4) };
            let segment = Segment::create(&name, &options).expect("create");
            poke(&open(&name), word("tail"), &tail.to_le_bytes());
            let (reader, writer) =
                (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
            for sequence in tail..tail + 10 {
                assert_eq!(writer.write(&sequence.to_le_bytes(), NOW).expect("write"), sequence);
                let sample = reader.read().expect("read").expect("a sample");
                assert_eq!(
                    (sample.sequence(), sample.to_vec()),
                    (sequence, sequence.to_le_bytes().to_vec())
                );
                let latest = segment.reader(1).expect("reader");
                let retained = latest.read().expect("read").expect("history");
                assert_eq!(retained.sequence(), sequence);
            }
            assert_eq!(reader.lost(), 0);
            Segment::unlink(&name).expect("unlink");
        }
    }
}

/// There the generation was compared with one that was truncated. Here the word wraps during the
/// waits, and they still see every change.
#[test]
fn flat_generation_wrap() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let segment = Segment::create(&name, &slots(2)).expect("create");
    // The count of rings is in the bits above the lowest three.
    let last_count = u32::MAX << 3;
    for bell in ["bells.data", "bells.space", "bells.change"] {
        poke(&open(&name), word(bell), &last_count.to_le_bytes());
    }
    let writer = segment.writer().expect("writer");
    let before = segment.generation().expect("generation");
    assert_eq!(code(segment.wait_for_change(before, NOW)), Code::Again);
    writer.reserve(1, NOW).expect("a slot").discard();
    let after = segment.wait_for_change(before, None).expect("a discard is a change");
    assert!(after < before, "the count has wrapped: {before} and then {after}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| segment.reader(0).expect("reader").wait(None));
        while !waiting.is_finished() {
            let _ = writer.write(b"x", NOW); // until the sleeper has not read two
            let reader = segment.reader(0).expect("reader");
            while let Ok(Some(_)) = reader.read() {}
        }
        waiting.join().expect("no panic").expect("a sample");
    });
}
