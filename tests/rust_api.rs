//! The Rust API: what the types promise beyond the C calls, which `ctests/` covers.
#![allow(unsafe_code)] // Copies whose safety is the caller's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use shmslot::{
    AttachOptions, Code, CreateOptions, EndWaits, Error, IfOrphaned, Policy, Reader, ReaderKind,
    Ref, Segment,
};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn small() -> CreateOptions {
    CreateOptions { slot_count: 2, slot_capacity: 64, ..CreateOptions::default() }
}

fn code<T>(result: Result<T, Error>) -> Code {
    match result {
        Ok(_) => panic!("that should have failed"),
        Err(error) => error.code(),
    }
}

/// A directory for one test, which disappears with the value, even if the test fails.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/shmslot-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Directory(path)
    }

    fn name(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of ASCII").to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_sample_made_independent_outlives_reader_and_segment() {
    let segment = Segment::create_local(&small()).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    for text in [b"one", b"two"] {
        writer.write(text, NOW).expect("write");
    }
    let first = reader.read().expect("read").expect("a sample").into_owned();
    let keeper = segment.reader(0).expect("reader");
    drop(reader);
    drop(segment);
    // "two" was unread and is free again; "one" is held.
    writer.write(b"new", NOW).expect("one slot is free");
    assert_eq!(code(writer.write(b"too many", NOW)), Code::NoFreeSlot);
    let bytes = std::thread::spawn(move || first.to_vec()).join().expect("no panic");
    assert_eq!(bytes, b"one");
    writer.write(b"now", NOW).expect("it was marked on the other thread");
    assert_eq!(std::iter::from_fn(|| keeper.read().expect("read")).count(), 2);
}

#[test]
fn a_dropped_loan_leaves_no_hole() {
    let segment = Segment::create_local(&small()).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    assert_eq!(writer.write(b"a", NOW).expect("write"), 1);
    drop(writer.reserve(8, NOW).expect("a slot"));
    writer.reserve(8, NOW).expect("a slot").discard();
    assert_eq!(code(writer.reserve(8, NOW).expect("a slot").commit(9)), Code::BadLength);
    assert_eq!(writer.write(b"b", NOW).expect("the slot came back each time"), 2);
    let sequences: Vec<u64> = std::iter::from_fn(|| reader.read().expect("read"))
        .map(|sample| sample.sequence())
        .collect();
    assert_eq!(sequences, [1, 2]);
}

#[test]
fn several_samples_are_in_hand_at_once() {
    let segment =
        Segment::create_local(&CreateOptions { slot_count: 3, ..small() }).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    for text in [b"1", b"2", b"3"] {
        writer.write(text, NOW).expect("write");
    }
    let mut hands: Vec<_> = std::iter::from_fn(|| reader.read().expect("read")).collect();
    assert_eq!(code(writer.reserve(1, NOW)), Code::NoFreeSlot);
    assert_eq!(writer.blockers(), Ok(1 << reader.index()));
    drop(hands.remove(1));
    writer.write(b"4", NOW).expect("the middle one is free");
    assert_eq!(hands.iter().map(|sample| sample.to_vec()).collect::<Vec<_>>(), [b"1", b"3"]);
}

#[test]
fn an_observer_counts() {
    let segment = Segment::create_anonymous(&small()).expect("create");
    let options = AttachOptions { observer: true, ..AttachOptions::default() };
    let observer = Segment::attach_fd(segment.fd().expect("anonymous"), &options).expect("attach");
    let slots = segment.info().expect("not forked").geometry.slot_count;
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    for text in [b"1", b"2"] {
        writer.write(text, NOW).expect("write");
    }
    let sample = reader.read().expect("read").expect("one was written");
    let counted = observer.counters().expect("counters");
    assert_eq!((counted.free, counted.unread, counted.held), (slots - 2, 1, 1));
    assert_eq!((counted.readers, counted.writers, counted.next_sequence), (1, 1, 3));
    let of_reader = observer.readers().expect("readers")[0];
    assert_eq!((of_reader.index, of_reader.kind), (reader.index(), ReaderKind::Joined));
    assert_eq!((of_reader.unread, of_reader.held, of_reader.lag), (1, 1, 1));
    assert_eq!(of_reader.oldest_held, sample.sequence());
    drop(sample);
    let loan = writer.reserve(1, NOW).expect("a slot");
    let of_writer = observer.writers().expect("writers")[0];
    assert_eq!((of_writer.id, of_writer.loans), (writer.id(), 1));
    drop(loan);
    assert_eq!(observer.writers(), Ok(Vec::new()));
    assert_eq!(observer.deaths(), Ok(Vec::new()));
}

#[test]
fn waiting_on_readers_of_two_segments() {
    let segments = [(); 2].map(|()| Segment::create_anonymous(&small()).expect("create"));
    let readers = [0, 1].map(|i| segments[i].reader(0).expect("reader"));
    let both: Vec<&Reader> = readers.iter().collect();
    assert_eq!(code(Reader::wait_any(&both, NOW)), Code::Again);
    std::thread::scope(|scope| {
        let segment = &segments[1];
        let waiting = scope.spawn(|| {
            let readers = [0, 1].map(|i| segments[i].reader(0).expect("reader"));
            Reader::wait_any(&readers.each_ref(), None)
        });
        // Nothing shows from outside that the other thread sleeps, so this continues until it has
        // woken.
        while !waiting.is_finished() {
            let writer = segment.writer().expect("writer");
            let _ = writer.write(b"wake", NOW);
            while let Ok(Some(_)) = readers[1].read() {}
        }
        assert_eq!(waiting.join().expect("no panic").expect("a sample"), 1);
    });
    assert_eq!(code(Reader::wait_any(&[], NOW)), Code::Invalid);
}

#[test]
fn an_interrupt_ends_a_wait_from_another_thread() {
    let segment = Segment::create_local(&small()).expect("create");
    let reader = segment.reader(0).expect("reader");
    let interrupter = reader.interrupter();
    std::thread::scope(|scope| {
        scope.spawn(move || interrupter.interrupt());
        assert_eq!(code(reader.wait(None)), Code::Interrupted);
    });
    // Once only.
    assert_eq!(code(reader.wait(Some(Duration::from_nanos(1)))), Code::Timeout);
}

#[test]
fn names_that_a_c_string_cannot_even_hold() {
    let long = "n".repeat(201);
    for name in ["", "a/b", "with\0nul", "/with\0nul", "/ends/in/", &long] {
        assert_eq!(code(Segment::create(name, &small())), Code::BadName, "{name:?}");
        assert_eq!(
            code(Segment::attach(name, &AttachOptions::default())),
            Code::BadName,
            "{name:?}"
        );
        assert_eq!(code(Segment::unlink(name)), Code::BadName, "{name:?}");
    }
    assert_eq!(
        code(Segment::attach("nobody-made-this", &AttachOptions::default())),
        Code::NotFound
    );
}

#[test]
fn the_name_of_a_dead_segment_can_be_taken() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let first = Segment::create(&name, &small()).expect("create");
    assert_eq!(code(Segment::create(&name, &small())), Code::Exists);
    first.writer().expect("writer").write(b"left behind", NOW).expect("write");
    let id = first.info().expect("not forked").geometry.segment_id;
    drop(first);

    let refuse = CreateOptions { if_orphaned: IfOrphaned::Refuse, ..small() };
    assert_eq!(code(Segment::create(&name, &refuse)), Code::Exists);
    let adopted =
        Segment::create(&name, &CreateOptions { if_orphaned: IfOrphaned::Adopt, ..small() })
            .expect("adopt");
    assert_eq!(
        (
            adopted.info().expect("not forked").geometry.segment_id,
            adopted.info().expect("not forked").next_sequence
        ),
        (id, 2)
    );
    drop(adopted);
    let replaced = Segment::create(&name, &small()).expect("replace");
    assert_ne!(replaced.info().expect("not forked").geometry.segment_id, id);
    assert_eq!(replaced.info().expect("not forked").next_sequence, 1);
    let (attached, created) = Segment::open(&name, &small()).expect("open");
    assert!(
        !created
            && attached.info().expect("not forked").geometry.segment_id
                == replaced.info().expect("not forked").geometry.segment_id
    );
    Segment::unlink(&name).expect("unlink");
    assert_eq!(code(Segment::unlink(&name)), Code::NotFound);
}

#[test]
fn open_compares_what_is_asked_for() {
    let directory = Directory::new();
    let name = directory.name("segment");
    let there =
        Segment::create(&name, &CreateOptions { max_readers: 3, ..small() }).expect("create");
    let participants = || there.info().expect("not forked").participants;
    let asked = CreateOptions { max_readers: 4, ..small() };
    let error = Segment::open(&name, &asked).expect_err("not what is there");
    assert_eq!((error.code(), error.numbers()), (Code::OptionsMismatch, [4, 3, 0]));
    assert!(error.to_string().contains(": max_readers: 4 wanted, 3 found; "), "{error}");
    assert_eq!(participants(), 1);
    let default = CreateOptions { max_readers: 15, ..small() };
    assert_eq!(
        code(Segment::open(&name, &default)),
        Code::OptionsMismatch,
        "a default that is asked for"
    );
    let left_alone = CreateOptions { max_readers: 0, ..small() };
    let any = CreateOptions { any_geometry: true, ..asked };
    for options in [left_alone, any] {
        let (opened, created) = Segment::open(&name, &options).expect("open");
        assert!(!created);
        assert_eq!(opened.info().expect("not forked").geometry.max_readers, 3);
        assert_eq!(participants(), 2);
    }
}

/// Many threads race to replace a dead segment and to attach: all that succeed at one time see one
/// segment.
#[test]
fn racing_for_a_name_gives_one_segment() {
    let directory = Directory::new();
    let name = directory.name("segment");
    for _ in 0..50 {
        drop(Segment::create(&name, &small()).expect("nobody is attached"));
        let barrier = std::sync::Barrier::new(4);
        let ids: Vec<u64> = std::thread::scope(|scope| {
            let racer = |create: bool| {
                let (name, barrier) = (&name, &barrier);
                move || {
                    barrier.wait();
                    let made = match create {
                        true => Segment::create(name, &small()),
                        false => Segment::open(name, &small()).map(|(segment, _)| segment),
                    };
                    // Attached until all have tried.
                    let id = made
                        .as_ref()
                        .ok()
                        .map(|segment| segment.info().expect("not forked").geometry.segment_id);
                    if let Err(error) = &made {
                        assert_eq!(error.code(), Code::Exists);
                    }
                    barrier.wait();
                    id
                }
            };
            let racers = [true, true, false, false].map(|create| scope.spawn(racer(create)));
            racers.into_iter().filter_map(|racer| racer.join().expect("no panic")).collect()
        });
        assert!(!ids.is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[test]
fn looking_joins_nothing_and_changes_nothing() {
    let segment = Segment::create_anonymous(&small()).expect("create");
    let fd = segment.fd().expect("a descriptor");
    let look =
        Segment::attach_fd(fd, &AttachOptions { observer: true, ..AttachOptions::default() })
            .expect("look");
    segment.writer().expect("writer").write(b"x", NOW).expect("write");
    assert_eq!(
        (
            look.info().expect("not forked").next_sequence,
            look.info().expect("not forked").participants
        ),
        (2, 1)
    );
    assert_eq!(code(look.writer()), Code::NotSupported);
    assert_eq!(code(look.reader(0)), Code::NotSupported);
    assert_eq!(code(look.generation()), Code::NotSupported);
    assert_eq!(code(look.wait_for_change(0, NOW)), Code::NotSupported);
}

#[test]
fn who_comes_first_waits() {
    let directory = Directory::new();
    let name = directory.name("segment");
    assert_eq!(code(Segment::attach_wait(&name, &AttachOptions::default(), NOW)), Code::Again);
    let soon = Some(Duration::from_millis(1));
    assert_eq!(code(Segment::attach_wait(&name, &AttachOptions::default(), soon)), Code::Timeout);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let segment = Segment::create(&name, &small()).expect("create");
            let writer = segment.writer().expect("writer");
            writer.wait_readers(1, None).expect("it joins");
            writer.write(b"x", NOW).expect("write");
            let error = writer.wait_readers(16, None).expect_err("15 is the default");
            assert_eq!((error.code(), error.numbers()), (Code::Invalid, [16, 15, 0]));
        });
        let segment =
            Segment::attach_wait(&name, &AttachOptions::default(), None).expect("it comes");
        let reader = segment.reader(0).expect("reader");
        reader.wait(None).expect("a sample");
        assert_eq!(reader.read().expect("read").expect("a sample").sequence(), 1);
        sender.join().expect("no panic");
    });
    Segment::unlink(&name).expect("unlink");
}

#[test]
fn participants_and_readers_are_limited_as_said() {
    let options = CreateOptions { max_participants: 2, max_readers: 2, ..small() };
    let segment = Segment::create_anonymous(&options).expect("create");
    let fd = segment.fd().expect("a descriptor");
    let second = Segment::attach_fd(fd, &AttachOptions::default()).expect("a second");
    assert_eq!(code(Segment::attach_fd(fd, &AttachOptions::default())), Code::NoParticipantSlot);
    drop(second);
    drop(Segment::attach_fd(fd, &AttachOptions::default()).expect("the place is free again"));
    let readers = [(); 2].map(|()| segment.reader(0).expect("reader"));
    assert_eq!(code(segment.reader(0)), Code::NoReaderSlot);
    drop(readers);
    segment.reader(0).expect("the places are free again");
}

/// Every slot count that is special to some table, three laps, with readers in the first and the
/// last word of marks.
#[test]
fn odd_sizes_go_round() {
    for slots in [1, 2, 3, 63, 64, 65, 1000, 4097] {
        for policy in [Policy::Fail, Policy::DropOldest] {
            let options = CreateOptions {
                slot_count: slots,
                slot_capacity: 8,
                max_readers: 63,
                policy: Some(policy),
                ..CreateOptions::default()
            };
            let segment = Segment::create_local(&options).expect("create");
            let readers: Vec<Reader> =
                (0..63).map(|_| segment.reader(0).expect("reader")).collect();
            let (first, last) = (&readers[0], &readers[62]);
            let others = &readers[1..62];
            let writer = segment.writer().expect("writer");
            for count in 0..3 * u64::from(slots) {
                assert_eq!(writer.write(&count.to_le_bytes(), NOW).expect("write"), count + 1);
                for reader in [first, last] {
                    let sample = reader.read().expect("read").expect("a sample");
                    assert_eq!(sample.to_vec(), count.to_le_bytes());
                }
                if policy == Policy::Fail {
                    for reader in others {
                        drop(reader.read().expect("read").expect("a sample"));
                    }
                }
            }
            if policy == Policy::DropOldest {
                for reader in others {
                    let kept = std::iter::from_fn(|| reader.read().expect("read")).count() as u64;
                    assert_eq!((kept, reader.lost()), (u64::from(slots), 2 * u64::from(slots)));
                }
            }
        }
    }
}

#[test]
fn more_than_all_memory_is_refused_at_once() {
    let options =
        CreateOptions { slot_count: 1 << 20, slot_capacity: 1 << 32, ..CreateOptions::default() };
    assert_eq!(code(Segment::create_anonymous(&options)), Code::NoMemory);
}

#[test]
fn options_out_of_range_are_named() {
    let cases = [
        ("slot_count", CreateOptions { slot_count: (1 << 24) + 1, ..small() }),
        ("slot_capacity", CreateOptions { slot_capacity: (1 << 32) + 1, ..small() }),
        ("payload_align", CreateOptions { payload_align: 96, ..small() }),
        ("payload_align", CreateOptions { payload_align: 8192, ..small() }),
        ("user_header_size", CreateOptions { user_header_size: 257, ..small() }),
        ("max_readers", CreateOptions { max_readers: 64, ..small() }),
        ("history", CreateOptions { history: 2, ..small() }),
        ("max_participants", CreateOptions { max_participants: 4096, ..small() }),
        ("mode", CreateOptions { mode: 0o777, ..small() }),
        ("type_name", CreateOptions { type_name: "n".repeat(64), ..small() }),
        ("any_owner", CreateOptions { any_owner: true, ..small() }),
        ("any_geometry", CreateOptions { any_geometry: true, ..small() }),
    ];
    for (field, options) in cases {
        let error = Segment::create_local(&options).expect_err(field);
        assert_eq!(error.code(), Code::BadOptions);
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn a_slot_taken_past_an_inactive_reader_is_not_owed_to_it_any_more() {
    let segment =
        Segment::create_local(&CreateOptions { slot_count: 1, ..small() }).expect("create");
    let reference = segment.reference().expect("reference operations");
    let first = reference.reserve(0b11).expect("a slot");
    reference.commit_copy(first, b"x").expect("commit");
    reference.mark_read(first, 0).expect("mark");
    assert_eq!(code(reference.reserve(0b11)), Code::NoFreeSlot);
    let second = reference.reserve(0b01).expect("reader 1 is left out");
    reference.discard(second).expect("discard");
    assert_eq!(reference.next_unread(1).expect("an answer"), None);
    assert_eq!(code(reference.read_ptr(first)), Code::Stale);
    reference.reserve(0b11).expect("nobody needs the slot");
}

/// Words that no honest process writes: every call still ends, with a value or a code, and none
/// with a panic.
#[test]
fn spoiled_words_are_answered() {
    let directory = Directory::new();
    let offsets: Vec<usize> = shmslot::layout::word_offsets()
        .into_iter()
        .filter(|(name, _)| ["tail", "active", "horizon"].contains(name))
        .map(|(_, offset)| offset)
        .collect();
    for policy in [Policy::Fail, Policy::DropOldest] {
        for (case, offset) in offsets.iter().flat_map(|offset| {
            [0, 1, 5, u64::MAX, u64::MAX - 3, 1 << 40, 1 << 63].map(move |value| (value, *offset))
        }) {
            let name = directory.name("spoiled");
            let options = CreateOptions {
                slot_count: 3,
                slot_capacity: 8,
                history: 1,
                policy: Some(policy),
                ..CreateOptions::default()
            };
            let segment = Segment::create(&name, &options).expect("create");
            let (reader, writer) =
                (segment.reader(0).expect("reader"), segment.writer().expect("writer"));
            for _ in 0..2 {
                writer.write(b"sound", NOW).expect("write");
            }
            let file = std::fs::OpenOptions::new().write(true).open(&name).expect("the file");
            std::os::unix::fs::FileExt::write_all_at(&file, &case.to_le_bytes(), offset as u64)
                .expect("spoil");

            let no_panic = |what: &str, code: Code| {
                assert_ne!(code, Code::Panic, "{what} at {offset:#x} = {case:#x}")
            };
            for _ in 0..8 {
                writer.write(b"after", NOW).err().inspect(|error| no_panic("write", error.code()));
                reader.read().err().inspect(|error| no_panic("read", error.code()));
                reader.peek_latest().err().inspect(|error| no_panic("peek", error.code()));
                reader.wait(NOW).err().inspect(|error| no_panic("wait", error.code()));
            }
            segment.reader(1).err().inspect(|error| no_panic("join", error.code()));
            if let Ok(reference) = segment.reference() {
                reference
                    .next_unread(0)
                    .err()
                    .inspect(|error| no_panic("next_unread", error.code()));
                reference.reserve(1).err().inspect(|error| no_panic("reserve", error.code()));
            }
            let _ = (segment.info().expect("not forked"), writer.blockers());
            Segment::unlink(&name).expect("unlink");
        }
    }
}

#[test]
fn reference_operations_leave_the_hands_of_departed_readers_alone() {
    let segment =
        Segment::create_local(&CreateOptions { slot_count: 1, ..small() }).expect("create");
    let reader = segment.reader(0).expect("reader");
    let index = reader.index();
    let reference = segment.reference().expect("reference operations");
    let first = reference.reserve(0).expect("a slot");
    reference.commit_copy(first, b"AAAA").expect("commit");
    let sample = reader.read().expect("read").expect("a sample").into_owned();
    drop(reader);
    assert_eq!(code(reference.reserve(1)), Code::NoFreeSlot);
    assert_eq!(code(reference.mark_read(first, index)), Code::BadIndex);
    assert_eq!(code(reference.mark_reader_disconnected(index)), Code::BadIndex);
    assert_eq!(sample.to_vec(), b"AAAA");
    drop(sample);
    reference.reserve(1).expect("it was marked");
}

/// A reader leaves with a held sample while the commit of that sample is not over: the commit
/// clears the marks of readers that left, and must not clear this one's. A reference works as a key
/// of a map, and other readers can use its two numbers.
#[test]
fn references_are_kept_and_sent() {
    let segment =
        Segment::create_local(&CreateOptions { single_writer: true, ..small() }).expect("create");
    let (writes, reads) =
        (segment.reference().expect("reference"), segment.reference().expect("reference"));
    let mut books = std::collections::HashMap::new();
    for text in [b"one", b"two"] {
        let slot = writes.reserve(1).expect("a slot");
        writes.commit_copy(slot, text).expect("commit");
        books.insert(slot, text);
    }
    // Reading took no writer's place.
    assert_eq!(code(reads.reserve(1)), Code::WriterExists);
    for slot in 0..2 {
        let found = reads.published(slot).expect("an answer").expect("a sample");
        assert_eq!(found.slot(), slot);
        let sent = Ref::new(found.segment_id(), found.token()).expect("numbers of a reference");
        assert_eq!(sent, found);
        let mut copy = [0; 3];
        // SAFETY: there is one thread.
        let header = unsafe { reads.read_copy(sent, &mut copy) };
        assert_eq!(header.expect("it is published").unread, 1);
        assert_eq!(books.remove(&sent), Some(&copy));
        reads.mark_read(sent, 0).expect("mark");
    }
    assert_eq!(code(Ref::new(1, 1 << 60)), Code::Stale);
    assert_eq!(code(reads.header(Ref::new(0, 0).expect("numbers of a reference"))), Code::Stale);
    assert_eq!(code(reads.published(2)), Code::Invalid);
}

#[test]
fn a_hand_outlives_a_leave_in_the_middle_of_the_commit() {
    let options = CreateOptions { slot_count: 4, slot_capacity: 64, ..CreateOptions::default() };
    let segment = Segment::create_anonymous(&options).expect("create");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = segment.writer().expect("writer");
            let mut count = 0u64;
            while !done.load(Ordering::Relaxed) {
                count += 1;
                let bytes: Vec<u8> = count.to_le_bytes().repeat(8);
                let _ = writer.write(&bytes, NOW);
            }
        });
        for _ in 0..20_000 {
            let reader = segment.reader(0).expect("reader");
            let mut sample = None;
            for _ in 0..1000 {
                sample = reader.read().expect("read").map(shmslot::Sample::into_owned);
                if sample.is_some() {
                    break;
                }
            }
            drop(reader);
            let Some(sample) = sample else { continue };
            let first = sample.to_vec();
            for _ in 0..20 {
                assert_eq!(sample.to_vec(), first, "sample {}", sample.sequence());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// One writer is opened before the other is closed, over and over: there always is one.
#[test]
fn writers_that_hand_over_are_never_none() {
    let first = Segment::create_anonymous(&CreateOptions::default()).expect("a segment");
    let second = Segment::attach_fd(first.fd().expect("a file"), &AttachOptions::default())
        .expect("an attachment");
    let reader = second.reader(0).expect("a reader");
    reader.end_waits(EndWaits { no_writers: true, ..EndWaits::default() }).expect("a reader");
    let mut writer = first.writer().expect("a writer");
    std::thread::scope(|scope| {
        let handing_over = scope.spawn(|| {
            for turn in 0..1_000_000 {
                let segment = if turn % 2 == 0 { &second } else { &first };
                // and only then the one before it is closed
                writer = segment.writer().expect("a writer");
            }
        });
        while !handing_over.is_finished() {
            assert_eq!(code(reader.wait(NOW)), Code::Again);
        }
    });
}

/// Its name leads elsewhere from then on: who is attached learns it, and finds the others by the
/// name anew.
#[test]
fn a_segment_that_lost_its_name_says_so() {
    let name = format!("rust-retired-{}", std::process::id());
    let segment = Segment::create(&name, &CreateOptions::default()).expect("a segment");
    let reader = segment.reader(0).expect("a reader");
    reader.end_waits(EndWaits { retired: true, ..EndWaits::default() }).expect("a reader");
    assert_eq!(segment.is_named(), Ok(true));
    assert!(!segment.info().expect("an attachment").retired);
    Segment::unlink(&name).expect("it has the name");
    assert_eq!(segment.is_named(), Ok(false));
    assert!(segment.info().expect("an attachment").retired);
    assert_eq!(code(reader.wait(None)), Code::Retired);
    let local = Segment::create_local(&CreateOptions::default()).expect("a segment");
    assert_eq!(code(local.is_named()), Code::NotSupported);
}

/// A reader and a segment say why a call has failed, with numbers.
#[test]
fn a_reader_explains() {
    let options = CreateOptions { max_held: 1, ..CreateOptions::default() };
    let segment = Segment::create_anonymous(&options).expect("a segment");
    let (reader, writer) =
        (segment.reader(0).expect("a reader"), segment.writer().expect("a writer"));
    writer.write(b"x", None).expect("a slot");
    let held = reader.read().expect("no failure").expect("a sample");
    assert_eq!(reader.read().expect_err("one is the limit").code(), Code::HeldLimit);
    let error = reader.explain(Code::HeldLimit);
    assert_eq!((error.code(), error.numbers()), (Code::HeldLimit, [1, 1, 0]));
    assert_eq!(error.to_string(), "this reader holds 1 samples, and max_held is 1; mark one first");

    let mut listed = segment.readers().expect("the readers").remove(0);
    listed.generation += 1;
    let error = segment.expel(&listed).expect_err("it has not joined yet");
    let numbers = [listed.index.into(), listed.generation.into(), 0];
    assert_eq!((error.code(), error.numbers()), (Code::NotFound, numbers));
    drop(held);
}

fn fill(loans: &mut [shmslot::Loan<&shmslot::Writer>], from: u64) {
    for (value, loan) in (from..).zip(loans) {
        loan.copy_from(&value.to_le_bytes()).expect("it fits");
    }
}

fn values(samples: &[shmslot::Sample<'_>]) -> Vec<u64> {
    let value = |sample: &shmslot::Sample<'_>| {
        let mut bytes = [0; 8];
        assert_eq!(sample.copy_to(&mut bytes), 8);
        u64::from_le_bytes(bytes)
    };
    samples.iter().map(value).collect()
}

fn of_64_slots() -> CreateOptions {
    CreateOptions { slot_count: 64, slot_capacity: 8, ..CreateOptions::default() }
}

#[test]
fn batches_are_as_many_single_calls() {
    for single_writer in [false, true] {
        let segment = Segment::create_local(&CreateOptions { single_writer, ..of_64_slots() });
        let segment = segment.expect("create");
        let (reader, other) = (segment.reader(0).expect("reader"), segment.reader(0).expect("one"));
        let writer = segment.writer().expect("writer");
        let (mut loans, mut samples) = (Vec::new(), Vec::new());
        for round in 0..10 {
            let from = round * 40;
            assert_eq!(writer.reserve_many(8, NOW, 40, &mut loans).expect("slots"), 40);
            fill(&mut loans, from);
            let mut sequences = Vec::new();
            let done = writer.commit_many(&mut loans, &[8; 40], |one| sequences.push(one));
            assert_eq!((done.expect("commits"), loans.len()), (40, 0));
            assert_eq!(sequences, (from + 1..=from + 40).collect::<Vec<_>>());

            assert_eq!(reader.read_many(40, &mut samples).expect("a read"), 40);
            assert_eq!(values(&samples), (from..from + 40).collect::<Vec<_>>());
            assert_eq!(reader.read_many(1, &mut samples).expect("nothing yet"), 0);
            // Those of another reader are marked, too.
            let theirs = other.read_many(usize::MAX, &mut samples).expect("a read");
            assert_eq!((theirs, samples.len()), (40, 80));
            reader.mark_many(&mut samples);
            assert!(samples.is_empty());
        }
        // Every slot is free, and no more than that.
        assert_eq!(writer.reserve_many(8, NOW, 65, &mut loans).expect("slots"), 64);
        assert_eq!(code(writer.reserve_many(8, NOW, 1, &mut loans)), Code::NoFreeSlot);
    }
}

#[test]
fn a_batch_leaves_what_it_cannot_commit() {
    let segment = Segment::create_local(&of_64_slots()).expect("create");
    let reader = segment.reader(0).expect("reader");
    let (writer, other) = (segment.writer().expect("writer"), segment.writer().expect("writer"));
    let mut loans = Vec::new();
    writer.reserve_many(8, NOW, 20, &mut loans).expect("slots");
    fill(&mut loans, 0);
    // As many as there are lengths.
    assert_eq!(writer.commit_many(&mut loans, &[8; 3], |_| {}).expect("commits"), 3);
    // A length that was not reserved.
    let mut lens = [8; 17];
    lens[5] = 9;
    assert_eq!(writer.commit_many(&mut loans, &lens, |_| {}).expect("commits"), 5);
    assert_eq!(loans.len(), 12);
    assert_eq!(code(writer.commit_many(&mut loans, &[9], |_| {})), Code::BadLength);
    // The loan of another writer.
    let theirs = other.reserve(8, NOW).expect("a slot");
    loans.insert(2, theirs);
    assert_eq!(writer.commit_many(&mut loans, &[8; 13], |_| {}).expect("commits"), 2);
    assert_eq!(code(writer.commit_many(&mut loans, &[8; 13], |_| {})), Code::Invalid);
    assert_eq!(loans.len(), 11);
    loans.clear();
    let mut samples = Vec::new();
    reader.read_many(64, &mut samples).expect("a read");
    assert_eq!(values(&samples), (0..10).collect::<Vec<_>>());
    reader.mark_many(&mut samples);
    assert_eq!(writer.reserve_many(8, NOW, 65, &mut loans).expect("slots"), 64, "all are free");
}

#[test]
fn a_batch_of_marks_takes_any_samples() {
    let segment = Segment::create_local(&of_64_slots()).expect("create");
    let (reader, other) = (segment.reader(0).expect("reader"), segment.reader(0).expect("one"));
    let writer = segment.writer().expect("writer");
    for value in 0..20_u64 {
        writer.write(&value.to_le_bytes(), NOW).expect("a slot");
    }
    let mut samples = Vec::new();
    reader.read_many(5, &mut samples).expect("a read");
    samples.push(reader.peek_latest().expect("a look").expect("a sample"));
    let of_other = other.read().expect("a read").expect("a sample");
    samples.push(of_other.into_owned());
    samples.push(reader.read().expect("a read").expect("a sample").into_owned());
    reader.read_many(20, &mut samples).expect("a read");
    assert_eq!(samples.len(), 5 + 3 + 14);
    reader.mark_many(&mut samples);
    // Of a reader that is not there any more.
    let mut rest = Vec::new();
    other.read_many(20, &mut rest).expect("a read");
    let mut owned: Vec<_> = rest.into_iter().map(shmslot::Sample::into_owned).collect();
    drop(other);
    reader.mark_many(&mut owned);
    let mut loans = Vec::new();
    assert_eq!(writer.reserve_many(8, NOW, 65, &mut loans).expect("slots"), 64, "all are free");
}

#[test]
fn a_callback_that_panics_in_a_batch_costs_nothing() {
    let segment = Segment::create_local(&of_64_slots()).expect("create");
    let reader = segment.reader(0).expect("reader");
    let writer = segment.writer().expect("writer");
    let mut loans = Vec::new();
    writer.reserve_many(8, NOW, 40, &mut loans).expect("slots");
    fill(&mut loans, 0);
    let mut told = 0;
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let tell = |_| {
            told += 1;
            assert!(told < 20, "enough");
        };
        writer.commit_many(&mut loans, &[8; 40], tell)
    }));
    assert!(panics.is_err() && loans.is_empty());
    let mut samples = Vec::new();
    let read = reader.read_many(64, &mut samples).expect("a read");
    assert!(read >= 20 && values(&samples).iter().copied().eq(0..read as u64));
    reader.mark_many(&mut samples);
    assert_eq!(writer.reserve_many(8, NOW, 65, &mut loans).expect("slots"), 64, "all are free");
}

#[test]
fn one_name_is_removed_only_if_its_segment_is_dead() {
    let directory = Directory::new();
    let (alive, dead) = (directory.name("alive"), directory.name("dead"));
    let stranger = directory.name("stranger");
    let segment = Segment::create(&alive, &small()).expect("create");
    drop(Segment::create(&dead, &small()).expect("create"));
    std::fs::write(&stranger, b"no segment").expect("a file");
    for (name, removed) in [(&alive, false), (&dead, true), (&dead, false), (&stranger, false)] {
        assert_eq!(Segment::unlink_if_dead(name), Ok(removed), "{name}");
    }
    assert_eq!(segment.is_named(), Ok(true));
    assert!(std::fs::exists(&stranger).expect("the directory can be read"));
    assert_eq!(code(Segment::unlink_if_dead("")), Code::BadName);
}
