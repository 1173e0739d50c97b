//! The programs of docs/guide.md compile and work, word for word, as the processes that the page
//! describes.

mod harness;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shmslot::{AttachOptions, Code, Segment};

/// Longer than anything takes, so that a hanging test fails.
const PATIENT: Option<Duration> = Some(Duration::from_secs(100));

const WIDTH: usize = 1280;
const FRAME: usize = WIDTH * 720 * 2;
/// Most samples that may be under way at once.
const UNDER_WAY: u64 = 8;

/// Writes every file of the page into a folder, and compiles the programs among them.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let page = std::fs::read_to_string(harness::root().join("docs/guide.md"))
            .expect("the page is there");
        let folder = harness::scratch("guide");
        let files: Vec<PathBuf> = harness::blocks(&page, "c")
            .chain(harness::blocks(&page, "cpp"))
            .map(|text| {
                let (name, _) = text
                    .strip_prefix("/* ")
                    .or_else(|| text.strip_prefix("// "))
                    .and_then(|text| text.split_once(": "))
                    .expect("a file name");
                let path = folder.join(name);
                std::fs::write(&path, text).expect("the target folder can be written");
                path
            })
            .collect();
        let is_program = |file: &&PathBuf| {
            file.extension().is_some_and(|extension| extension == "c" || extension == "cpp")
        };
        for file in files.iter().filter(is_program) {
            harness::build(file, &file.with_extension(""));
        }
        folder
    })
}

/// A running program, which ends with the test.
struct Program {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Program {
    fn start(name: &str, arguments: &[&str], stdout: Stdio) -> Program {
        let mut child = Command::new(programs().join(name))
            .args(arguments)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was built");
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        Program { child, said }
    }

    /// A program that joins, and says so.
    fn reader(name: &str, arguments: &[&str]) -> Program {
        let mut program = Program::start(name, arguments, Stdio::null());
        assert_eq!(program.hear(), format!("{name}: ready"));
        program
    }

    fn camera(name: &str, count: &str) -> Program {
        Program::start("camera", &[name, count], Stdio::null())
    }

    /// Its next line on standard error; empty if it has ended.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it speaks");
        line.trim_end().to_owned()
    }

    /// Its last line, once it has ended successfully.
    fn end(mut self) -> String {
        let line = self.hear();
        assert!(self.child.wait().expect("it ends").success(), "{line}");
        line
    }

    /// Returns when it is asleep.
    fn until_asleep(&self) {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
                .expect("it is ours");
            // The state follows the name in brackets, which may contain anything.
            match stat.rsplit_once(')').expect("a name").1.trim_start().chars().next() {
                Some('S') => return,
                Some('R' | 'D') => std::thread::yield_now(),
                state => panic!("it does not run any more: {state:?}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // For a program that has ended, both calls only fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A unique name, which is removed with the test.
struct Name(String);

impl Name {
    fn new(test: &str) -> Name {
        Name(format!("guide-{test}-{}", std::process::id()))
    }

    fn preview(&self) -> String {
        format!("{}.preview", self.0)
    }

    fn frames(&self) -> Segment {
        Segment::attach(&self.0, &AttachOptions::default()).expect("it is there")
    }

    fn is_gone(&self) -> bool {
        [&self.0, &self.preview()].into_iter().all(|name| {
            Segment::attach(name, &AttachOptions::default())
                .is_err_and(|error| error.code() == Code::NotFound)
        })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Segment::unlink(&self.0);
        let _ = Segment::unlink(&self.preview());
    }
}

/// Returns when so many more samples have been committed, or fails.
fn await_samples(segment: &Segment, more: u64) {
    let sequence = || segment.info().expect("it is open").next_sequence;
    let wanted = sequence() + more;
    loop {
        let generation = segment.generation().expect("it is open");
        if sequence() >= wanted {
            return;
        }
        segment.wait_for_change(generation, PATIENT).expect("the camera goes on");
    }
}

/// The numbers of a line.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn hello() {
    let name = Name::new("hello");
    let mut listener = Program::start("listen", &[&name.0], Stdio::piped());
    assert_eq!(listener.hear(), "listening");
    Program::start("say", &[&name.0, "hello"], Stdio::null()).end();
    let mut heard = String::new();
    let stdout = listener.child.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut heard).expect("it prints");
    assert_eq!(heard, "hello\n");
    listener.end();
    assert!(name.is_gone());
}

#[test]
fn the_recorder_has_every_frame_and_the_viewer_the_newest() {
    const FRAMES: u64 = 20;
    let name = Name::new("film");
    let file = harness::scratch("guide").join("film");
    let recorder = Program::reader("recorder", &[&name.0, file.to_str().expect("a path of text")]);
    let viewer = Program::reader("viewer", &[&name.0]);
    let camera = Program::camera(&name.0, &FRAMES.to_string());

    assert_eq!(camera.end(), format!("camera: {FRAMES} frames"));
    assert_eq!(recorder.end(), format!("recorder: {FRAMES} frames, 0 missing"));
    let said = viewer.end();
    let [pictures, last, lost] = numbers(&said)[..] else { panic!("{said}") };
    assert!(pictures >= 1 && last == FRAMES && pictures + lost <= FRAMES, "{said}");
    assert!(name.is_gone());

    let film = std::fs::read(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it is ours");
    assert_eq!(film.len(), FRAME * FRAMES as usize);
    for (frame, number) in film.chunks_exact(FRAME).zip(1..) {
        let right = |(at, pixel): (usize, &[u8])| {
            pixel[0] == (at % WIDTH / 4 + at / WIDTH / 4 + number) as u8 && pixel[1] == 128
        };
        assert!(frame.chunks_exact(2).enumerate().all(right), "frame {number}");
    }
}

#[test]
fn the_logger_has_every_reading_of_the_sensor() {
    let name = Name::new("sensor");
    let logger = Program::reader("logger", &[&name.0]);
    // More than all slots, and no whole number of batches.
    Program::start("sensor", &[&name.0, "999"], Stdio::null()).end();
    assert_eq!(logger.end(), "logger: 999 readings, their mean is 250");
    assert!(name.is_gone());
}

#[test]
fn nobody_waits_for_who_was_killed() {
    let name = Name::new("killed");
    let keeper = Program::reader("recorder", &[&name.0, "/dev/null"]);
    let victim = Program::reader("recorder", &[&name.0, "/dev/null"]);
    let viewer = Program::reader("viewer", &[&name.0]);
    let camera = Program::camera(&name.0, "0");
    let frames = name.frames();
    await_samples(&frames, 2 * UNDER_WAY);

    // A stopped viewer blocks nobody.
    viewer.signal(Signal::SIGSTOP);
    await_samples(&frames, 4 * UNDER_WAY);
    // The frames that the victim is owed would block the camera permanently.
    victim.signal(Signal::SIGSTOP);
    camera.until_asleep();
    victim.signal(Signal::SIGKILL);
    await_samples(&frames, 4 * UNDER_WAY);

    let picture = harness::scratch("guide").join("snapshot.pgm");
    Program::start(
        "snapshot",
        &[&name.0, picture.to_str().expect("a path of text")],
        Stdio::null(),
    )
    .end();
    let picture = std::fs::read(picture).expect("it was written");
    let pixels = picture.strip_prefix(b"P5 160 90 255\n").expect("the head of the file");
    assert_eq!(pixels.len(), 160 * 90);
    let one_picture = |(at, pixel): (usize, &u8)| {
        *pixel == pixels[0].wrapping_add((at % 160 * 2 + at / 160 * 2) as u8)
    };
    assert!(pixels.iter().enumerate().all(one_picture));

    camera.signal(Signal::SIGKILL);
    let said = keeper.end();
    let [recorded, missing] = numbers(&said)[..] else { panic!("{said}") };
    assert_eq!(
        (recorded, missing),
        (frames.info().expect("it is open").next_sequence - 1, 0),
        "{said}"
    );

    // Another camera takes its place.
    let keeper = Program::reader("recorder", &[&name.0, "/dev/null"]);
    assert_eq!(Program::camera(&name.0, "3").end(), "camera: 3 frames");
    assert_eq!(keeper.end(), "recorder: 3 frames, 0 missing");
    assert!(name.is_gone());
}

#[test]
fn a_signal_ends_each_of_them() {
    let name = Name::new("signal");
    let recorder = Program::reader("recorder", &[&name.0, "/dev/null"]);
    let viewer = Program::reader("viewer", &[&name.0]);
    let idle = Program::reader("recorder", &[&Name::new("idle").0, "/dev/null"]);
    idle.signal(Signal::SIGTERM);
    assert_eq!(idle.end(), "recorder: 0 frames, 0 missing");

    let camera = Program::camera(&name.0, "0");
    await_samples(&name.frames(), UNDER_WAY);
    viewer.signal(Signal::SIGINT);
    assert!(viewer.end().starts_with("viewer: "));
    camera.signal(Signal::SIGTERM);
    let [filmed] = numbers(&camera.end())[..] else { panic!("the camera says how many") };
    assert_eq!(recorder.end(), format!("recorder: {filmed} frames, 0 missing"));
    assert!(name.is_gone());
}
