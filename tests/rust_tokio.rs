//! Readers and writers in tokio, with the feature `tokio`; and the program of `examples/loops`.
#![cfg(feature = "tokio")]
#![allow(unsafe_code)] // A test forks, and one registers a descriptor by itself.

#[path = "../examples/loops/tokio.rs"]
#[allow(dead_code, unreachable_pub)] // It is a program, whose main is not called here.
mod example;

use std::future::{self, Future};
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::process::Command;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use shmslot::{
    Arm, AsyncReader, AsyncWriter, AttachOptions, Code, CreateOptions, EndWaits, Readable, Result,
    Segment, Set,
};
use tokio::io::unix::AsyncFd;

const SAMPLES: u64 = 3000;
/// Bytes that go into a region.
const LARGE: usize = 4096;

fn options() -> CreateOptions {
    CreateOptions { slot_count: 4, slot_capacity: 8, ..CreateOptions::default() }
}

fn segment() -> Segment {
    Segment::create_anonymous(&options()).expect("made")
}

fn unique(tag: &str) -> String {
    format!("tokio-{tag}-{}", std::process::id())
}

/// A name that goes with the test, however that ends.
struct Named(String);

impl Named {
    fn create(tag: &str) -> (Named, Segment) {
        let name = unique(tag);
        let segment = Segment::create(&name, &options()).expect("made");
        (Named(name), segment)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
    }
}

/// Polls a future once, and drops it.
async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// A task may move to another thread between two samples.
async fn elsewhere<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> T {
    tokio::spawn(task).await.expect("it does not panic")
}

async fn write_all(writer: &mut AsyncWriter, values: std::ops::Range<u64>) -> Result<()> {
    for value in values {
        writer.write(&value.to_ne_bytes()).await?;
        if value % 500 == 0 {
            // The reader falls asleep.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_receives_from_two_segments_beside_a_timer() {
    let (first, of_first) = Named::create("first");
    let (second, of_second) = Named::create("second");
    let writers = [&of_first, &of_second].map(|segment| segment.writer().expect("opened"));
    let [one, two] = writers.map(|writer| AsyncWriter::new(writer).expect("in a runtime"));
    let names = [first.0.clone(), second.0.clone()];
    let received = tokio::spawn(async move { example::receive([&names[0], &names[1]]).await });
    let sent = [(one, SAMPLES), (two, SAMPLES + 1)].map(|(mut writer, count)| {
        tokio::spawn(async move {
            while let Err(error) = writer.get().wait_readers(1, Some(Duration::ZERO)) {
                assert_eq!(error.code(), Code::Again, "{error}");
                tokio::task::yield_now().await;
            }
            write_all(&mut writer, 0..count).await
        })
    });
    for sent in sent {
        sent.await.expect("it does not panic").expect("sent");
    }
    let received = received.await.expect("it does not panic").expect("received");
    assert_eq!(received, [SAMPLES, SAMPLES + 1]);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let segment = segment();
    let writer = segment.writer().expect("opened");
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    for round in 1..=500_u64 {
        // Dropped while they wait, and in every third round with the wake under way.
        for _ in 0..round % 4 {
            assert!(poll_once(reader.next()).await.is_pending());
        }
        writer.write(&round.to_ne_bytes(), Some(Duration::ZERO)).expect("written");
        if round % 3 == 0 {
            // It finds nothing only where the task has to let others run first.
            if let Poll::Ready(sample) = poll_once(reader.next()).await {
                assert_eq!(sample.expect("one").sequence(), round);
                continue;
            }
        }
        assert_eq!(reader.next().await.expect("one").sequence(), round);
    }
}

#[tokio::test]
async fn a_stream_gives_all_samples_in_order_from_another_thread() {
    let segment = segment();
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    let writer = segment.writer().expect("opened");
    let mut writer = AsyncWriter::new(writer).expect("in a runtime");
    let received = elsewhere(async move {
        for value in 0..SAMPLES {
            let sample = future::poll_fn(|context| Pin::new(&mut reader).poll_next(context)).await;
            let sample = sample.expect("a stream does not end").expect("one");
            assert_eq!(sample.to_vec(), value.to_ne_bytes());
        }
    });
    let (_, sent) = tokio::join!(received, write_all(&mut writer, 0..SAMPLES));
    sent.expect("sent");
}

#[tokio::test]
async fn space_is_awaited_and_a_dropped_write_writes_nothing() {
    let segment = segment();
    let reader = segment.reader(0).expect("joined");
    let mut writer = AsyncWriter::new(segment.writer().expect("opened")).expect("in a runtime");
    let slots = u64::from(options().slot_count);
    for value in 0..slots {
        writer.space().await.expect("there is some");
        writer.write(&value.to_ne_bytes()).await.expect("written");
    }
    for value in slots..slots + 300 {
        assert!(poll_once(writer.space()).await.is_pending());
        assert!(poll_once(writer.write(&u64::MAX.to_ne_bytes())).await.is_pending());
        let sample = reader.read().expect("sound").expect("there is one");
        assert_eq!(sample.to_vec(), (value - slots).to_ne_bytes());
        drop(sample);
        if value % 2 == 0 {
            writer.space().await.expect("there is some");
        }
        writer.write(&value.to_ne_bytes()).await.expect("written");
    }
}

/// Awaits something that does not come, until tokio knows that the descriptor is not readable.
async fn in_vain<T>(what: impl Future<Output = T>) {
    let ended = tokio::time::timeout(Duration::from_millis(50), what).await;
    assert!(ended.is_err(), "there is nothing to find");
}

#[tokio::test]
async fn a_write_that_waits_for_a_region_lets_others_find_slots() {
    let options = CreateOptions { max_payload: LARGE as u64, region_count: 1, ..options() };
    let segment = Segment::create_anonymous(&options).expect("made");
    let reader = segment.reader(0).expect("joined");
    let mut writer = AsyncWriter::new(segment.writer().expect("opened")).expect("in a runtime");
    writer.write(&[1; LARGE]).await.expect("written");
    in_vain(writer.write(&[2; LARGE])).await;
    let Poll::Ready(space) = poll_once(writer.space()).await else { panic!("slots are free") };
    space.expect("there is some");
    let Poll::Ready(sent) = poll_once(writer.write(b"x")).await else { panic!("slots are free") };
    assert_eq!(sent.expect("written"), 2);
    // It still waits for the region, and its release is told.
    in_vain(writer.write(&[2; LARGE])).await;
    let release = async {
        drop(reader.read().expect("sound").expect("the first"));
    };
    let large = [2; LARGE];
    let (sent, ()) = tokio::join!(writer.write(&large), release);
    assert_eq!(sent.expect("written"), 3);
}

#[tokio::test]
async fn what_is_asked_of_the_writer_directly_takes_no_event_from_a_write() {
    let segment = segment();
    let mut writer = AsyncWriter::new(segment.writer().expect("opened")).expect("in a runtime");
    for _ in 0..3 {
        // It drains the descriptor, at first before tokio has looked at it.
        let nobody = writer.get().wait_readers(1, Some(Duration::ZERO)).expect_err("nobody reads");
        assert_eq!(nobody.code(), Code::Again);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let sent = poll_once(writer.write(b"x")).await;
        assert!(matches!(sent, Poll::Ready(Ok(_))), "slots are free: {sent:?}");
    }
}

#[tokio::test]
async fn an_end_that_is_asked_for_after_a_wait_is_told() {
    let segment = segment();
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    in_vain(reader.next()).await;
    let ends = EndWaits { no_writers: true, ..EndWaits::default() };
    reader.get().end_waits(ends).expect("known");
    let Poll::Ready(end) = poll_once(reader.next()).await else { panic!("nobody writes") };
    assert_eq!(end.expect_err("nobody writes").code(), Code::NoWriters);
}

#[tokio::test]
async fn a_reader_that_always_finds_something_lets_other_tasks_run() {
    let segment = segment();
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    let writer = segment.writer().expect("opened");
    in_vain(reader.next()).await;
    let other = tokio::spawn(async {});
    while !other.is_finished() {
        writer.write(b"x", Some(Duration::ZERO)).expect("written");
        reader.next().await.expect("one");
    }
}

/// Says of which segment a process is the victim.
const VICTIM_OF: &str = "SHMSLOT_TOKIO_VICTIM_OF";

/// The code of a process that writes one sample and is killed; it does nothing in the test run
/// itself.
#[test]
fn victim() {
    let Ok(name) = std::env::var(VICTIM_OF) else { return };
    let segment = Segment::attach(&name, &AttachOptions::default()).expect("attached");
    let writer = segment.writer().expect("opened");
    writer.write(&7_u64.to_ne_bytes(), None).expect("written");
    std::thread::park();
}

#[tokio::test]
async fn the_death_of_the_writer_and_of_its_process_are_told() {
    let (name, segment) = Named::create("death");
    let reader = segment.reader(0).expect("joined");
    reader
        .end_waits(EndWaits { no_writers: true, peer_dead: true, ..EndWaits::default() })
        .expect("known");
    let mut reader = AsyncReader::new(reader).expect("in a runtime");
    let nobody = reader.next().await.expect_err("nobody writes").code();
    assert_eq!(nobody, Code::NoWriters);
    let writer = segment.writer().expect("opened");
    assert!(poll_once(reader.next()).await.is_pending());
    drop(writer);
    assert_eq!(reader.next().await.expect_err("it was closed").code(), Code::NoWriters);

    let keeps = segment.writer().expect("opened");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "victim"])
        .env(VICTIM_OF, &name.0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("starts");
    assert_eq!(reader.next().await.expect("one").to_vec(), 7_u64.to_ne_bytes());
    assert!(poll_once(reader.next()).await.is_pending());
    child.kill().expect("it runs");
    assert_eq!(reader.next().await.expect_err("it was killed").code(), Code::PeerDead);
    child.wait().expect("it ends");
    // After an end, samples go on.
    keeps.write(&8_u64.to_ne_bytes(), None).expect("written");
    assert_eq!(reader.next().await.expect("one").to_vec(), 8_u64.to_ne_bytes());
}

#[tokio::test]
async fn an_error_of_the_reader_is_told_each_time() {
    let segment = Segment::create_anonymous(&CreateOptions { max_held: 1, ..options() });
    let segment = segment.expect("made");
    let writer = segment.writer().expect("opened");
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    for value in 0..2_u64 {
        writer.write(&value.to_ne_bytes(), None).expect("written");
    }
    let held = reader.next().await.expect("one").into_owned();
    for _ in 0..3 {
        assert_eq!(reader.next().await.expect_err("it holds one").code(), Code::HeldLimit);
    }
    drop(held);
    assert_eq!(reader.next().await.expect("one").sequence(), 2);
}

#[tokio::test]
async fn a_forked_child_that_drops_its_copies_takes_no_event_from_its_parent() {
    let segment = segment();
    let writer = segment.writer().expect("opened");
    let mut reader = AsyncReader::new(segment.reader(0).expect("joined")).expect("in a runtime");
    let mut other = AsyncWriter::new(segment.writer().expect("opened")).expect("in a runtime");
    for _ in 0..options().slot_count {
        writer.write(b"x", Some(Duration::ZERO)).expect("written");
    }
    in_vain(other.space()).await;
    for _ in 0..options().slot_count {
        reader.next().await.expect("one");
    }
    in_vain(reader.next()).await;
    // SAFETY: the child makes the calls below only, and none of them needs another thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "forked");
    if child == 0 {
        let forked = matches!(
            poll_once(reader.next()).await,
            Poll::Ready(Err(error)) if error.code() == Code::Forked
        );
        drop((reader, other));
        // SAFETY: it ends the child, without what the test program does at its end.
        unsafe { libc::_exit(i32::from(!forked)) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child got another answer than Forked");
    // Each of them sleeps when that happens which it waits for.
    let write = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        writer.write(b"x", Some(Duration::ZERO)).expect("written");
    };
    let (sample, ()) = tokio::join!(reader.next(), write);
    let sample = sample.expect("one").into_owned();
    for _ in 1..options().slot_count {
        writer.write(b"x", Some(Duration::ZERO)).expect("written");
    }
    let release = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(sample);
    };
    let (space, ()) = tokio::join!(other.space(), release);
    space.expect("there is some");
}

#[test]
fn without_a_runtime_there_is_an_error() {
    let segment = segment();
    let refused = AsyncReader::new(segment.reader(0).expect("joined")).expect_err("no runtime");
    assert_eq!(refused.error.code(), Code::Invalid);
    assert!(refused.to_string().contains("runtime"), "{refused}");
    assert!(refused.given.read().expect("it is as before").is_none());
    let refused = AsyncWriter::new(segment.writer().expect("opened")).expect_err("no runtime");
    assert_eq!(refused.error.code(), Code::Invalid);
    refused.given.write(b"x", Some(Duration::ZERO)).expect("it is as before");
}

#[tokio::test]
async fn a_descriptor_that_reads_do_not_arm_is_refused() {
    let segment = segment();
    let reader = segment.reader(0).expect("joined");
    reader.descriptor(Arm::OnRequest).expect("made");
    let refused = AsyncReader::new(reader).expect_err("nothing would arm it");
    assert_eq!(refused.error.code(), Code::Invalid);
    assert!(refused.to_string().contains("on request"), "{refused}");
}

#[tokio::test]
async fn a_member_of_a_set_is_refused() {
    let segment = segment();
    let reader = segment.reader(0).expect("joined");
    let set = Set::new(Readable::default()).expect("made");
    set.add_reader(&reader, 1).expect("added");
    let refused = AsyncReader::new(reader).expect_err("the set waits for it");
    assert_eq!(refused.error.code(), Code::Invalid);
    assert!(refused.to_string().contains("in a set"), "{refused}");
}

#[tokio::test]
async fn what_is_in_the_runtime_already_is_given_back_and_can_be_awaited_later() {
    let segment = segment();
    let reader = segment.reader(0).expect("joined");
    let number = reader.descriptor(Arm::default()).expect("made").as_raw_fd();
    // SAFETY: a number stays the same, and the reader is open until the end.
    let first = unsafe { AsyncFd::register(number) }.expect("registered");
    let refused = AsyncReader::new(reader).expect_err("it is there already");
    assert_eq!((refused.error.code(), refused.error.os_errno()), (Code::Sys, libc::EEXIST));
    assert!(refused.to_string().contains("already"), "{refused}");
    drop(first);
    let writer = segment.writer().expect("opened");
    let mut reader = AsyncReader::new(refused.given).expect("in a runtime");
    for round in 1..=3 {
        in_vain(reader.next()).await;
        writer.write(b"x", Some(Duration::ZERO)).expect("written");
        assert_eq!(reader.next().await.expect("one").sequence(), round);
        let plain = reader.into_inner();
        assert!(plain.read().expect("sound").is_none());
        reader = AsyncReader::new(plain).expect("in a runtime");
    }
}
