//! How a command fails, and the exit status that says so.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use shmslot::Code;

/// The exit statuses. 2 is clap's, for arguments that make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Whoever reads the output is gone, which is no failure.
    NobodyReads = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// As that of `timeout`.
    TimedOut = 124,
    /// As that of a shell whose program was ended by SIGINT.
    Interrupted = 130,
}

/// Why a command ends without having done what was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    text: String,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: Status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Failure {
        Failure::new(Status::Failed, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Status::Usage, text)
    }

    /// Something could not be done with a file.
    pub(crate) fn file(path: &Path, what: &str, why: impl fmt::Display) -> Failure {
        Failure::failed(format!("\"{}\": cannot {what}: {why}", path.display()))
    }

    pub(crate) fn interrupted(what: &str) -> Failure {
        Failure::new(Status::Interrupted, format!("interrupted; {what}"))
    }

    /// The same, with the name that it is about, unless the text has it.
    pub(crate) fn about(self, name: &str) -> Failure {
        if self.status == Status::NobodyReads || self.text.contains(name) {
            return self;
        }
        Failure { text: format!("\"{name}\": {}", self.text), ..self }
    }

    /// Whether a command that treats several segments should stop at once.
    pub(crate) fn ends_all(&self) -> bool {
        matches!(self.status, Status::NobodyReads | Status::Interrupted)
    }

    /// Whether there is no segment of this name, or no longer.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == Status::NotFound
    }

    /// Prints it in one line, if there is something to say.
    pub(crate) fn print(&self) {
        if self.status != Status::NobodyReads {
            eprintln!("shmslot: {self}");
        }
    }

    pub(crate) fn report(self) -> ExitCode {
        self.print();
        ExitCode::from(self.status as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text.replace('\n', " "))
    }
}

impl From<shmslot::Error> for Failure {
    fn from(error: shmslot::Error) -> Failure {
        let status = match error.code() {
            Code::NotFound => Status::NotFound,
            Code::Timeout | Code::Again => Status::TimedOut,
            // Only a signal to this command interrupts its waits.
            Code::Interrupted => Status::Interrupted,
            _ => Status::Failed,
        };
        Failure::new(status, error.to_string())
    }
}

/// Of the standard output, the only stream whose errors are passed on by `?`.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::new(Status::NobodyReads, "");
        }
        Failure::failed(format!("cannot write to the standard output: {error}"))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::from(io::Error::from(error))
    }
}

/// Does something for each of several names. A failure for one does not keep it from the others;
/// each is printed, and the last is the command's.
pub(crate) fn for_each<'n>(
    names: impl IntoIterator<Item = &'n String>,
    mut act: impl FnMut(&str) -> Outcome,
) -> Outcome {
    let mut last: Option<Failure> = None;
    for name in names {
        if let Err(failure) = act(name) {
            if failure.ends_all() {
                return Err(failure);
            }
            if let Some(earlier) = last.replace(failure.about(name)) {
                earlier.print();
            }
        }
    }
    last.map_or(Ok(()), Err)
}
