//! Runs the built command on segments in a directory of the test's own.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use shmslot::{AttachOptions, CreateOptions, Segment};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shmslot");

/// A directory in shared memory, which is removed at the end, even if the test fails.
pub(crate) struct Directory(pub(crate) PathBuf);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Directory {
    pub(crate) fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/shmslot-tool-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Directory(path)
    }

    /// The name of a segment, for the library.
    pub(crate) fn name(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of ASCII").to_owned()
    }

    pub(crate) fn create(&self, name: &str, options: &CreateOptions) -> Segment {
        Segment::create(&self.name(name), options).expect("create")
    }

    pub(crate) fn attach(&self, name: &str) -> Segment {
        Segment::attach(&self.name(name), &AttachOptions::default()).expect("attach")
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--dir").arg(&self.0).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let output = std::thread::scope(|scope| {
            // A command that fails need not read it.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().expect("it can be waited for")
        });
        let text = |bytes| String::from_utf8(bytes).expect("it prints text");
        Ended {
            status: output.status.code().expect("no signal ended it"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Runs a command that must succeed; returns the one JSON value that it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let values = self.jsons(arguments);
        assert_eq!(values.len(), 1, "{arguments:?}: {values:?}");
        values.into_iter().next().expect("there is one")
    }

    /// As [`Directory::json`], for one value in each line.
    pub(crate) fn jsons(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(&[&["--json"], arguments].concat());
        assert_eq!(ended.status, 0, "{arguments:?}: {ended:?}");
        let value = |line| serde_json::from_str(line).expect("each line is JSON");
        ended.out.lines().map(value).collect()
    }

    /// Starts a command that runs until it is ended.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, out }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command under way, which is killed with the value.
pub(crate) struct Running {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// Kills it, and waits until the kernel has ended it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it prints text");
        line
    }

    pub(crate) fn wait(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("it prints text");
        let stderr = self.child.stderr.as_mut().expect("a pipe");
        stderr.read_to_string(&mut err).expect("it prints text");
        let status: ExitStatus = self.child.wait().expect("it can be waited for");
        Ended { status: status.code().unwrap_or(-1), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so. It fails only after a time that no working machine needs.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came to this: {what}");
}

pub(crate) fn small() -> CreateOptions {
    CreateOptions { slot_count: 8, slot_capacity: 64, ..CreateOptions::default() }
}

/// A Python that has the packages of `requirements.txt`: made once, under the target folder.
pub(crate) fn python() -> PathBuf {
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python");
    let (python, ready) = (folder.join("bin/python"), folder.join("ready"));
    let requirements = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/requirements.txt");
    let wanted = std::fs::read(requirements).expect("it is committed");
    if std::fs::read(&ready).ok().as_ref() != Some(&wanted) {
        // Another test binary may make it at the same time: the last one completes it.
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements));
        std::fs::write(&ready, wanted).expect("the target folder can be written");
    }
    python
}

/// Runs a command that must succeed; returns what it prints.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}
