//! Segments of values of one Rust type.
#![allow(unsafe_code)] // A user's own type, and values in place.

use std::time::Duration;

use shmslot::{AttachOptions, Code, CreateOptions, Segment, ShmSafe, TypeName, TypedSegment};

const NOW: Option<Duration> = Some(Duration::ZERO);

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(256))]
struct Frame {
    pixels: [u16; 124],
    number: u64,
}

// SAFETY: integers without padding: 248 bytes and 8.
unsafe impl ShmSafe for Frame {}

impl TypeName for Frame {
    const TYPE_NAME: &'static str = "acme.Frame";
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Other([u8; 256]);

// SAFETY: bytes.
unsafe impl ShmSafe for Other {}

impl TypeName for Other {
    const TYPE_NAME: &'static str = "acme.Other";
}

fn code<T>(result: shmslot::Result<T>) -> Code {
    result.err().expect("that should have failed").code()
}

fn frame(number: u64) -> Frame {
    Frame { pixels: [number as u16; 124], number }
}

#[test]
fn values_go_through() {
    let frames =
        TypedSegment::<Frame>::create_anonymous(&CreateOptions::default()).expect("create");
    let geometry = frames.untyped().info().expect("not forked").geometry;
    assert_eq!((geometry.slot_capacity, geometry.payload_align), (256, 256));
    let (reader, writer) = (frames.reader(0).expect("reader"), frames.writer().expect("writer"));
    assert!(reader.read().expect("read").is_none());
    writer.write(&frame(1), NOW).expect("write");
    let mut loan = writer.reserve(NOW).expect("a slot");
    loan.write(frame(2));
    // SAFETY: this process is the only one.
    unsafe { loan.as_mut() }.number = 3;
    assert_eq!(loan.commit().expect("commit"), 2);
    writer.reserve(NOW).expect("a slot").discard();

    assert_eq!(reader.read().expect("read").expect("a value").get(), frame(1));
    let second = reader.read().expect("read").expect("a value").into_owned();
    drop(reader);
    // SAFETY: as above.
    assert_eq!(*unsafe { second.as_ref() }, Frame { number: 3, ..frame(2) });
    assert_eq!(second.untyped().sequence(), 2);
}

#[test]
fn threads_share_a_typed_writer() {
    let frames = TypedSegment::<Frame>::create_local(&CreateOptions::default()).expect("create");
    let (reader, writer) =
        (frames.reader(0).expect("reader"), frames.shared_writer().expect("writer"));
    let mut loan = writer.reserve(NOW).expect("a slot");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loan.write(frame(1));
            loan.commit().expect("commit")
        });
        writer.write(&frame(2), NOW).expect("write");
    });
    let mut numbers = [(); 2].map(|()| reader.read().expect("read").expect("a value").get().number);
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn another_type_is_refused() {
    let frames =
        TypedSegment::<Frame>::create_anonymous(&CreateOptions::default()).expect("create");
    let fd = || frames.untyped().fd().expect("a descriptor");
    TypedSegment::<Frame>::attach_fd(fd(), &AttachOptions::default()).expect("the same type");
    let other = TypedSegment::<Other>::attach_fd(fd(), &AttachOptions::default());
    assert_eq!(code(other), Code::TypeMismatch);
    let untyped = Segment::create_local(&CreateOptions::default()).expect("create");
    let error = TypedSegment::<Frame>::of(untyped).expect_err("it has no type");
    assert_eq!(error.code(), Code::TypeMismatch);
    assert!(error.to_string().contains("acme.Frame"), "{error}");
}

#[test]
fn a_segment_without_room_for_the_type_is_refused() {
    let small = CreateOptions { slot_capacity: 255, ..CreateOptions::default() };
    let error = TypedSegment::<Frame>::create_local(&small).expect_err("one byte too few");
    assert_eq!((error.code(), error.numbers()), (Code::BadOptions, [256, 255, 0]));
}

#[test]
fn a_sample_of_another_length_is_no_value() {
    let frames = TypedSegment::<Frame>::create_local(&CreateOptions::default()).expect("create");
    let reader = frames.reader(0).expect("reader");
    let writer = frames.untyped().writer().expect("writer");
    writer.write(b"short", NOW).expect("write");
    assert_eq!(code(reader.read()), Code::TypeMismatch);
    assert!(reader.read().expect("it was marked").is_none());
}
