//! What libraries leave in the file system: names of this run's own, and their removal.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How all names of this run begin.
pub(crate) fn prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| format!("peers{}_", std::process::id()))
}

/// A name that no other sample has; to be asked for before the processes part.
pub(crate) fn name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}{what}{}", prefix(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// This run's directory, in memory.
pub(crate) fn directory() -> PathBuf {
    Path::new("/dev/shm").join(prefix())
}

/// Removes what runs have left in memory: of those that are gone when this one begins, and its own
/// at its end.
pub(crate) struct Cleaner(u32);

impl Cleaner {
    pub(crate) fn new() -> Cleaner {
        remove(|run| !Path::new("/proc").join(run).exists());
        fs::create_dir_all(directory()).expect("a directory in memory");
        Cleaner(std::process::id())
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        let own = std::process::id();
        if own == self.0 {
            remove(|run| run == own.to_string());
        }
    }
}

/// Removes what belongs to these runs, each told by its process number.
fn remove(of: impl Fn(&str) -> bool) {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let run =
            name.strip_prefix("peers").and_then(|rest| rest.split_once('_')).map(|(run, _)| run);
        if run.is_some_and(|run| {
            run.bytes().all(|digit| digit.is_ascii_digit()) && !run.is_empty() && of(run)
        }) {
            let _ = fs::remove_file(entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
