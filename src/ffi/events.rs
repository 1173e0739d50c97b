//! Descriptors for event loops.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Code, HotResult, Result};
use crate::events::{Arm, Descriptor};
use crate::ffi::arguments::{Out, from_c};
use crate::ffi::boundary;
use crate::ffi::library::{SHMSLOT_OK, shmslot_error};
use crate::ffi::reader::shmslot_reader;
use crate::ffi::writer::shmslot_writer;

/// Flag of shmslot_reader_fd and shmslot_writer_fd: calls that find nothing do not arm the
/// descriptor. The program does, by shmslot_reader_fd_arm or shmslot_writer_fd_arm.
pub const SHMSLOT_FD_MANUAL: u32 = 1;

fn arm_of(flags: u32) -> HotResult<Arm> {
    match flags {
        0 => Ok(Arm::WhenNothingIsThere),
        SHMSLOT_FD_MANUAL => Ok(Arm::OnRequest),
        _ => Err(Code::Invalid),
    }
}

/// Tells the number of a descriptor.
fn tell(ret_fd: &Out<'_, c_int>, descriptor: Result<&Descriptor>) -> Result<c_int> {
    ret_fd.give(descriptor?.as_fd().as_raw_fd())?;
    Ok(SHMSLOT_OK)
}

/// The descriptor of a reader, for poll, epoll and every event loop: readable when there may be
/// something to read, and right after it was made. The same each time; made at the first call.
///
/// Read until shmslot_slot_read returns SHMSLOT_E_AGAIN, then wait for the descriptor: that read
/// has armed it. A level-triggered loop may also stop reading earlier. The read costs one system
/// call, and only the one that finds nothing; a few times a second it also looks for processes that
/// have died. Only a call that returns AGAIN, or an end, has armed: shmslot_slot_read_many has not
/// if it returns fewer samples than there is room for, and neither has shmslot_wait with timeout 0.
/// A reader with a descriptor gets the ends of shmslot_reader_end_waits, without delay, from
/// shmslot_slot_read, too: NO_WRITERS, PEER_DEAD and RETIRED stand for AGAIN. After
/// SHMSLOT_E_HELD_LIMIT it is not armed, because a mark is due first.
///
/// The descriptor is the reader's: nobody else reads, writes or closes it, a forked child does not
/// use it, and one loop has it. Take it out of the loop, then call shmslot_reader_leave: that
/// closes it, or the mark of the last sample after it does.
///
/// flags: 0 or SHMSLOT_FD_MANUAL; what the first call says is so. ret_fd: the number. reterr: NULL
/// or filled on failure. Threads: see shmslot_reader. Errors: INVALID, NOT_SUPPORTED (no /proc, or
/// a system that does not tell of accesses), PERMISSION, DESCRIPTOR_LOST, NO_MEMORY, SYS (EMFILE:
/// no inotify instance or no descriptor is left; ENOSPC: no inotify watch). Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_fd(
    reader: *mut shmslot_reader,
    flags: u32,
    ret_fd: *mut c_int,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(reader: HandleRef, ret_fd: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_fd.present()?;
        tell(&ret_fd, reader.open()?.core.descriptor(arm_of(flags)?))
    })
}

/// Arms the descriptor of a reader, and looks once more: for programs that poll, and only sometimes
/// wait. 0: armed, and nothing is there. 1: something is there, so read on.
///
/// Threads: see shmslot_reader. Errors: INVALID (also if shmslot_reader_fd was not called),
/// NO_WRITERS, PEER_DEAD and RETIRED (as shmslot_reader_end_waits says; it is armed then),
/// DESCRIPTOR_LOST, EXPELLED, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_reader_fd_arm(reader: *mut shmslot_reader) -> c_int {
    from_c!(reader: HandleRef);
    boundary::with_system(&reader, |reader| Ok(c_int::from(reader.core.arm()?)))
}

/// The descriptor of a writer: readable when there may be a slot to reserve, and right after it was
/// made. The same each time; made at the first call.
///
/// Reserve with timeout 0 until it returns SHMSLOT_E_NO_FREE_SLOT, then wait for the descriptor:
/// that call has armed it. shmslot_wait_space and shmslot_wait_readers with timeout 0 arm it when
/// they return SHMSLOT_E_AGAIN. After SHMSLOT_E_LOAN_LIMIT it is not armed, nor after
/// shmslot_slot_reserve_many has returned fewer loans than there is room for. If
/// shmslot_writer_end_waits asks for RETIRED, that stands for both codes. One thread makes these
/// calls. For the rest it is as shmslot_reader_fd says; shmslot_writer_close closes it.
///
/// flags: 0 or SHMSLOT_FD_MANUAL; what the first call says is so. ret_fd: the number. reterr: NULL
/// or filled on failure.
/// Threads: see shmslot_writer. Errors: as shmslot_reader_fd. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_fd(
    writer: *mut shmslot_writer,
    flags: u32,
    ret_fd: *mut c_int,
    reterr: *mut shmslot_error,
) -> c_int {
    from_c!(writer: HandleRef, ret_fd: Out, reterr: Out);
    boundary::without_handle(reterr, || {
        ret_fd.present()?;
        tell(&ret_fd, writer.open()?.writer.descriptor(arm_of(flags)?))
    })
}

/// Arms the descriptor of a writer, and looks once more. 0: armed, and no slot is free. 1: there
/// may be a slot to reserve. It is armed in either case: who needs more than a slot, memory for a
/// large payload, tries once more and then waits.
///
/// Threads: see shmslot_writer. Errors: INVALID (also if shmslot_writer_fd was not called), RETIRED
/// (as shmslot_writer_end_waits says; it is armed then), DESCRIPTOR_LOST, CORRUPT. Since 0.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmslot_writer_fd_arm(writer: *mut shmslot_writer) -> c_int {
    from_c!(writer: HandleRef);
    boundary::with_system(&writer, |writer| Ok(c_int::from(writer.writer.arm()?)))
}
