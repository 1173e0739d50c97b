//! The programs of `examples/loops`: event loops of several libraries receive from two segments,
//! beside a timer, and senders wait for slots of one. A library that is not installed is left out,
//! and the test says so.

mod harness;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use shmslot::{Code, CreateOptions, Segment, Writer};

const SAMPLES: u64 = 3000;
/// Then the receiver falls asleep.
const PAUSE_EVERY: u64 = 500;

/// The flags of a library, as pkg-config tells them; `None` if it is not installed.
fn package(name: &str) -> Option<Vec<String>> {
    let output = Command::new("pkg-config").args(["--cflags", "--libs", name]).output().ok()?;
    let flags = String::from_utf8(output.stdout).expect("flags are text");
    output.status.success().then(|| flags.split_whitespace().map(as_of_system).collect())
}

/// Its headers are not ours to be without warnings.
fn as_of_system(flag: &str) -> String {
    flag.strip_prefix("-I").map_or(flag.to_owned(), |folder| format!("-isystem{folder}"))
}

/// The same for one that consists of headers.
fn headers(name: &str) -> Option<Vec<String>> {
    PathBuf::from("/usr/include").join(name).exists().then(Vec::new)
}

/// Compiles a program of the folder.
fn build(source: &str, program: &str, flags: &[String]) -> PathBuf {
    let source = harness::root().join("examples/loops").join(source);
    let program = harness::scratch("loops").join(program);
    let cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let mut compiler = if cpp { harness::cxx_compiler() } else { harness::c_compiler() };
    if cpp {
        harness::with_cxx_header(&mut compiler, "c++17");
    } else {
        harness::with_header(&mut compiler, "gnu11");
    }
    compiler.arg(&source).arg("-o").arg(&program);
    harness::with_library(&mut compiler).args(flags);
    harness::run(&mut compiler);
    program
}

fn options() -> CreateOptions {
    CreateOptions { slot_count: 8, slot_capacity: 8, ..CreateOptions::default() }
}

fn unique(tag: &str) -> String {
    format!("loops-{tag}-{}", std::process::id())
}

fn send(writer: &Writer, value: u64) {
    loop {
        match writer.write(&value.to_ne_bytes(), Some(Duration::ZERO)) {
            Ok(_) => return,
            Err(error) if error.code() == Code::NoFreeSlot => {
                writer.wait_space(None).expect("the receiver goes on");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs a receiver on two segments, and ends all writers when everything is sent.
fn receives(program: &PathBuf, tag: &str, mode: Option<&str>) {
    let names = [unique(&format!("{tag}-a")), unique(&format!("{tag}-b"))];
    let segments = names.each_ref().map(|name| Segment::create(name, &options()).expect("made"));
    let writers = segments.each_ref().map(|segment| segment.writer().expect("opened"));
    let mut receiver = Command::new(program);
    let receiver = receiver.args(&names).args(mode).stdout(Stdio::piped()).spawn().expect("starts");
    for writer in &writers {
        writer.wait_readers(1, None).expect("the receiver joins");
    }
    for value in 0..SAMPLES {
        for writer in &writers {
            send(writer, value);
        }
        if value % PAUSE_EVERY == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    send(&writers[1], SAMPLES);
    drop(writers);
    let output = receiver.wait_with_output().expect("it ends");
    for name in names {
        Segment::unlink(&name).expect("it has its name");
    }
    assert!(output.status.success(), "{program:?}: {:?}", output.status);
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(said, format!("{SAMPLES} {}\n", SAMPLES + 1));
}

/// Runs a sender, and takes what it sends.
fn sends(program: &PathBuf, tag: &str) {
    let name = unique(tag);
    let segment = Segment::create(&name, &options()).expect("made");
    let reader = segment.reader(0).expect("joined");
    let mut sender = Command::new(program);
    let mut sender = sender.args([&name, &SAMPLES.to_string()]).spawn().expect("starts");
    for value in 0..SAMPLES {
        reader.wait(None).expect("the sender goes on");
        let sample = reader.read().expect("sound").expect("there is one");
        assert_eq!(sample.to_vec(), value.to_ne_bytes());
        if value % PAUSE_EVERY == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    assert!(sender.wait().expect("it ends").success());
    Segment::unlink(&name).expect("it has its name");
}

/// Builds a program of a library, and runs it on its test.
fn if_installed(
    source: &str,
    name: &str,
    flags: Option<Vec<String>>,
    test: impl FnOnce(&PathBuf, &str),
) {
    match flags {
        Some(flags) => test(&build(source, name, &flags), name),
        None => println!("{name} is not installed, and examples/loops/{source} was not run"),
    }
}

fn plainly_receives(program: &PathBuf, tag: &str) {
    receives(program, tag, None);
}

#[test]
fn epoll_receives() {
    let program = build("epoll.c", "epoll", &[]);
    receives(&program, "level", None);
    receives(&program, "edge", Some("edge"));
}

#[test]
fn epoll_sends() {
    sends(&build("epoll_send.c", "epoll_send", &[]), "epoll_send");
}

#[test]
fn a_middleware_waits() {
    plainly_receives(&build("rmw_wait.c", "rmw_wait", &[]), "rmw");
}

fn of_boost() -> Option<Vec<String>> {
    headers("boost/asio.hpp").map(|_| vec!["-DUSE_BOOST".to_owned()])
}

fn of_qt() -> Option<Vec<String>> {
    let mut flags = package("Qt5Core")?;
    flags.push("-fPIC".to_owned());
    Some(flags)
}

#[test]
fn libuv_receives() {
    if_installed("libuv.c", "libuv", package("libuv"), plainly_receives);
}

#[test]
fn libuv_sends() {
    if_installed("libuv_send.c", "libuv_send", package("libuv"), sends);
}

#[test]
fn glib_receives() {
    if_installed("glib.c", "glib", package("glib-2.0"), plainly_receives);
}

#[test]
fn glib_sends() {
    if_installed("glib_send.c", "glib_send", package("glib-2.0"), sends);
}

#[test]
fn asio_receives() {
    if_installed("asio.cpp", "asio", headers("asio.hpp"), plainly_receives);
}

#[test]
fn asio_sends() {
    if_installed("asio_send.cpp", "asio_send", headers("asio.hpp"), sends);
}

#[test]
fn boost_asio_receives() {
    if_installed("asio.cpp", "boost_asio", of_boost(), plainly_receives);
}

#[test]
fn boost_asio_sends() {
    if_installed("asio_send.cpp", "boost_asio_send", of_boost(), sends);
}

#[test]
fn qt_receives() {
    if_installed("qt.cpp", "qt", of_qt(), plainly_receives);
}

#[test]
fn qt_sends() {
    if_installed("qt_send.cpp", "qt_send", of_qt(), sends);
}
