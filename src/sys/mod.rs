//! The only door to the operating system: the few services that the library needs, as plain
//! functions.
//!
//! - `errno`: the meaning of the kernel's error numbers for the caller.
//! - `clock`, `futex`: time, and sleeping until a word changes.
//! - `fence`: a fence in every thread of other processes.
//! - `fork`, `cancel`: detecting a fork, and preventing the cancellation of threads.
//! - `machine`, `memory_limit`: facts about the machine, and how much memory this process may use.
//! - `process`: which processes are alive.
//! - `descriptor`, `kept`: where descriptors come from, and whether they are still ours.
//! - `file`, `lock`, `mapping`: files, their locks, their memory.
//! - `watch`: sleeping until a name appears; `access`: descriptors that tell of accesses to a file.
//! - `socket`: unix sockets that carry descriptors.

mod access;
mod cancel;
mod clock;
mod descriptor;
mod errno;
mod fence;
mod file;
mod fork;
mod futex;
mod kept;
mod lock;
mod machine;
pub(crate) mod mapping;
mod memory_limit;
mod process;
pub(crate) mod socket;
mod watch;

pub(crate) use access::{FileWatch, Polled, Told, touch};
pub(crate) use cancel::Uncancelled;
pub(crate) use clock::{Deadline, monotonic_ns, nanoseconds};
pub(crate) use fence::{fence_everybody, fence_registered, register_for_fences};
pub(crate) use file::{
    FileFacts, PIECE, SHM_DIRECTORY, Unseen, allocate, anonymous_file, deallocate, duplicate,
    each_name, file_facts, is_size_sealed, keep, link_file, named_file_facts, open_file,
    open_folder, path_bytes, read_at, read_word, reopen, seal_for_readers, seal_size, set_mode,
    set_size, unlink_file, unnamed_file, write_word,
};
pub(crate) use fork::ForkGuard;
pub(crate) use futex::{FUTEX_WAIT_ANY_MAX, futex_wait, futex_wait_any, futex_wake_all};
pub(crate) use kept::KeptFd;
pub(crate) use lock::{any_lock, is_locked, lock, lock_shared, lock_whole, unlock};
pub(crate) use machine::{effective_uid, machine_memory, page_size, random_id, several_processors};
pub(crate) use memory_limit::check_memory_limit;
pub(crate) use process::{Fate, Process, SHORT_BITS};
pub(crate) use watch::Watch;
