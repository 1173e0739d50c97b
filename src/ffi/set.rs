//! Wait sets.

use std::ffi::c_int;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;

use crate::error::Code;
use crate::ffi::arguments::from_c;
use crate::ffi::boundary;
use crate::ffi::handle::{Handle, Health};
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::plain::Plain;
use crate::ffi::reader::shmslot_reader;
use crate::ffi::segment::shmslot_segment;
use crate::ffi::writer::shmslot_writer;
use crate::set::{Event, Readable, Set, Trigger, What};

/// Flag of shmslot_set_create: the set tells of each change once, as EPOLLET does. Then a member is
/// used until its call has found nothing, and shmslot_set_wait is called until it returns 0, before
/// a loop waits for the descriptor. That saves one system call a turn.
pub const SHMSLOT_SET_EDGE: u32 = 1;

/// shmslot_event.what: a reader may have a sample; read until there is none.
pub const SHMSLOT_EVENT_DATA: u32 = 1;
/// shmslot_event.what: a writer may have a slot; reserve with timeout 0 until there is none.
pub const SHMSLOT_EVENT_SPACE: u32 = 2;
/// shmslot_event.what: a segment has changed since it was told last.
pub const SHMSLOT_EVENT_CHANGE: u32 = 4;
/// shmslot_event.what: a trigger was fired.
pub const SHMSLOT_EVENT_TRIGGER: u32 = 8;

/// Readers, writers, segments and triggers of any number, behind one descriptor. Threads: one at a
/// time, for the set and its members.
pub struct shmslot_set {
    set: Set,
    /// Room for what the next wait tells, so that waits do not allocate. It is empty while a wait
    /// has it, and is never waited for: a forked child may find it locked.
    told: Mutex<Vec<Event>>,
    health: Health,
}

impl Handle for shmslot_set {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// Lets any thread make a set tell something. Threads: any.
pub struct shmslot_trigger {
    trigger: Trigger,
    health: Health,
}

impl Handle for shmslot_trigger {
    fn health(&self) -> &Health {
        &self.health
    }
}

/// One thing that a set tells.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct shmslot_event {
    /// The number with which it was added.
    pub cookie: u64,
    /// One of SHMSLOT_EVENT_....
    pub what: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers.
unsafe impl Plain for shmslot_event {}

impl From<&Event> for shmslot_event {
    fn from(event: &Event) -> shmslot_event {
        let what = match event.what {
            What::Data => SHMSLOT_EVENT_DATA,
            What::Space => SHMSLOT_EVENT_SPACE,
            What::Change => SHMSLOT_EVENT_CHANGE,
            What::Trigger => SHMSLOT_EVENT_TRIGGER,
        };
        shmslot_event { cookie: event.cookie, what, reserved: 0 }
    }
}

/// Makes a set without members.
///
/// flags: 0 or SHMSLOT_SET_EDGE. ret_set: close it with shmslot_set_close. reterr: NULL or filled
/// on failure. Threads: any. Errors: INVALID, NOT_SUPPORTED (no /proc, or a system that does not
/// tell of accesses), PERMISSION, NO_MEMORY, DESCRIPTOR_LOST, SYS (EMFILE: no inotify instance or
/// no descriptor is left; ENOSPC: no inotify watch). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_create(
    flags: u32,
    ret_set: *mut *mut shmslot_set,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(ret_set: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_set.present()?;
        let readable = match flags {
            0 => Readable::Level,
            SHMSLOT_SET_EDGE => Readable::Edge,
            _ => return Err(Code::Invalid.into()),
        };
        let handle = shmslot_set {
            set: Set::new(readable)?,
            told: Mutex::default(),
            health: Health::default(),
        };
        boundary::hand_out(&ret_set, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes a set; NULL is fine. Its members stay open, and can enter another set or have a
/// descriptor; its triggers tell nobody any more. Threads: any, once, while no other call but
/// shmslot_trigger_fire uses it. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_close(set: *mut shmslot_set) {
    from_c!(set: HandleRef);
    // SAFETY: the header allows this once, and no use after it.
    unsafe { boundary::close(set) };
}

/// Adds a reader that has no descriptor of its own, and is in no other set. It may leave at any
/// time; that removes it.
///
/// The set tells of it, first of all once, and goes on until shmslot_slot_read has returned
/// SHMSLOT_E_AGAIN (but for SHMSLOT_SET_EDGE). A reader in a set gets the ends of
/// shmslot_reader_end_waits from shmslot_slot_read, as shmslot_reader_fd says.
///
/// cookie: a number that nothing else in the set has. reterr: NULL or filled on failure.
/// Threads: see shmslot_set. Errors: INVALID (also if it has a descriptor or is in a set), EXISTS
/// (the cookie), NOT_SUPPORTED, PERMISSION, DESCRIPTOR_LOST, NO_MEMORY, SYS. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_add_reader(
    set: *mut shmslot_set,
    reader: *mut shmslot_reader,
    cookie: u64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(set: HandleRef, reader: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        set.open()?.set.add_reader_core(&reader.open()?.core, cookie)?;
        Ok(SHMSLOT_OK)
    })
}

/// Adds a writer, as shmslot_set_add_reader does a reader. The set goes on telling of it until a
/// reserve with timeout 0 has returned SHMSLOT_E_NO_FREE_SLOT, or one of the calls has found
/// nothing that shmslot_writer_fd names.
///
/// Threads: see shmslot_set. Errors: as shmslot_set_add_reader. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_add_writer(
    set: *mut shmslot_set,
    writer: *mut shmslot_writer,
    cookie: u64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(set: HandleRef, writer: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        set.open()?.set.add_writer_core(&writer.open()?.writer, cookie)?;
        Ok(SHMSLOT_OK)
    })
}

/// Adds a segment: the set tells of it once, and then whenever there was a commit, a discard, a
/// mark or a death since it was told last. It may be closed at any time; that removes it.
///
/// Threads: see shmslot_set. Errors: as shmslot_set_add_reader, and NOT_SUPPORTED for an observer.
/// Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_add_segment(
    set: *mut shmslot_set,
    segment: *mut shmslot_segment,
    cookie: u64,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(set: HandleRef, segment: HandleRef, reterr: Out);
    boundary::without_handle(reterr, || {
        set.open()?.set.add_segment(&segment.open()?.segment, cookie)?;
        Ok(SHMSLOT_OK)
    })
}

/// Adds a trigger.
///
/// ret_trigger: close it with shmslot_trigger_close; the set keeps its number until
/// shmslot_set_remove. reterr: NULL or filled on failure. Threads: see shmslot_set. Errors:
/// INVALID, EXISTS (the cookie). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_add_trigger(
    set: *mut shmslot_set,
    cookie: u64,
    ret_trigger: *mut *mut shmslot_trigger,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(set: HandleRef, ret_trigger: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_trigger.present()?;
        let trigger = set.open()?.set.add_trigger(cookie)?;
        let handle = shmslot_trigger { trigger, health: Health::default() };
        boundary::hand_out(&ret_trigger, handle)?;
        Ok(SHMSLOT_OK)
    })
}

/// Makes the set tell of this trigger, once, however often it is fired before. Makes at most one
/// system call, and none if it was fired before and not told.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_trigger_fire(trigger: *mut shmslot_trigger) -> c_int {
    from_c!(trigger: HandleRef);
    boundary::with(&trigger, |trigger| {
        trigger.trigger.fire_here()?;
        Ok(SHMSLOT_OK)
    })
}

/// Closes a trigger; NULL is fine. Before or after its set. Threads: any, once, while no other call
/// uses it. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_trigger_close(trigger: *mut shmslot_trigger) {
    from_c!(trigger: HandleRef);
    // SAFETY: the header allows this once, and no use after it.
    unsafe { boundary::close(trigger) };
}

/// Removes what was added with this number. A reader or a writer can then have a descriptor, or
/// enter another set. Threads: see shmslot_set. Errors: INVALID, NOT_FOUND. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_remove(set: *mut shmslot_set, cookie: u64) -> c_int {
    from_c!(set: HandleRef);
    boundary::with_system(&set, |set| {
        set.set.remove(cookie).map_err(|error| error.code())?;
        Ok(SHMSLOT_OK)
    })
}

/// The descriptor of a set for an event loop: readable when shmslot_set_wait may have something to
/// tell, and right after the set was made. It is the set's, as shmslot_reader_fd says of a
/// reader's. Threads: any. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_fd(set: *const shmslot_set) -> c_int {
    from_c!(set: HandleRef);
    boundary::with(&set, |set| Ok(set.set.as_fd().as_raw_fd()))
}

/// Tells what may have happened, up to max events, and returns how many. If there is nothing it
/// sleeps until there is, or the time is over. 0: the time is over, and the descriptor is armed.
///
/// What it costs depends on what is ready, not on how many members the set has. A member is told of
/// again until its own call has found nothing, but for SHMSLOT_SET_EDGE. If more is ready than max,
/// the calls tell of all in turn. Deaths and the loss of names are noticed here, and told by the
/// calls of the members.
///
/// timeout_ns: nanoseconds, 0 does not wait, -1 for no limit. ret_events: room for max; what lies
/// behind the events that were told is unchanged. Threads: see shmslot_set. Errors: INVALID (also
/// max 0), BAD_TIMEOUT, INTERRUPTED, DESCRIPTOR_LOST, NO_MEMORY. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_wait(
    set: *mut shmslot_set,
    timeout_ns: i64,
    ret_events: *mut shmslot_event,
    max: usize,
) -> c_int {
    let event_size = size_of::<shmslot_event>();
    from_c!(set: HandleRef, ret_events[event_size, max]: OutArray);
    boundary::with_system(&set, |set| {
        /// More are told by the next call.
        const MOST: usize = 1024;
        ret_events.present()?;
        let timeout = boundary::timeout(timeout_ns)?;
        let mut events =
            set.told.try_lock().map_or_else(|_| Vec::new(), |mut told| mem::take(&mut *told));
        events.clear();
        let waited = set.set.wait_for(&mut events, max.min(MOST), timeout);
        let given = ret_events.give_all(events.iter().map(shmslot_event::from));
        if let Ok(mut told) = set.told.try_lock() {
            *told = events;
        }
        let count = waited?;
        given?;
        Ok(count as c_int)
    })
}

/// Ends one wait of the set, the running one or else the next that has nothing to tell, with
/// SHMSLOT_E_INTERRUPTED. Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_set_interrupt(set: *mut shmslot_set) -> c_int {
    from_c!(set: HandleRef);
    boundary::with(&set, |set| {
        set.set.interrupt()?;
        Ok(SHMSLOT_OK)
    })
}
