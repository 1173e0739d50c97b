/**
 * @file shmslot_events.h
 * Readers and writers in event loops: each has one descriptor, which poll, epoll and every loop
 * can wait for. docs/events.md has the rule for each loop.
 *
 * The rules at the top of shmslot.h hold here.
 */

#ifndef SHMSLOT_EVENTS_H
#define SHMSLOT_EVENTS_H

/* Generated from src/ffi; tests/header.rs compares and rewrites it. */

#include "shmslot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Descriptors for event loops ---- */

/// Flag of shmslot_reader_fd and shmslot_writer_fd: calls that find nothing do not arm the
/// descriptor. The program does, by shmslot_reader_fd_arm or shmslot_writer_fd_arm.
#define SHMSLOT_FD_MANUAL 1

/// The descriptor of a reader, for poll, epoll and every event loop: readable when there may be
/// something to read, and right after it was made. The same each time; made at the first call.
///
/// Read until shmslot_slot_read returns SHMSLOT_E_AGAIN, then wait for the descriptor: that read has
/// armed it. A level-triggered loop may also stop reading earlier. The read costs one system call,
/// and only the one that finds nothing. A reader with a descriptor gets the ends of
/// shmslot_reader_end_waits, without delay, from shmslot_slot_read, too: NO_WRITERS, PEER_DEAD and
/// RETIRED stand for AGAIN. After SHMSLOT_E_HELD_LIMIT it is not armed, because a mark is due first.
///
/// The descriptor is the reader's: nobody else reads, writes or closes it, a forked child does not
/// use it, and one loop has it. Take it out of the loop, then call shmslot_reader_leave: that closes
/// it, or the mark of the last sample after it does.
///
/// flags: 0 or SHMSLOT_FD_MANUAL; what the first call says is so. ret_fd: the number. reterr: NULL
/// or filled on failure.
/// Threads: see shmslot_reader. Errors: INVALID, NOT_SUPPORTED (no /proc, or a system that does not
/// tell of accesses), PERMISSION, DESCRIPTOR_LOST, NO_MEMORY, SYS (EMFILE: no inotify instance or no
/// descriptor is left; ENOSPC: no inotify watch). Since 0.2.
int shmslot_reader_fd(shmslot_reader *reader, uint32_t flags, int *ret_fd, shmslot_error *reterr);

/// Arms the descriptor of a reader, and looks once more: for programs that poll, and only sometimes
/// wait. 0: armed, and nothing is there. 1: something is there, so read on.
///
/// Threads: see shmslot_reader. Errors: INVALID (also if shmslot_reader_fd was not called),
/// NO_WRITERS, PEER_DEAD and RETIRED (as shmslot_reader_end_waits says; it is armed then),
/// DESCRIPTOR_LOST, EXPELLED, CORRUPT. Since 0.2.
int shmslot_reader_fd_arm(shmslot_reader *reader);

/// The descriptor of a writer: readable when there may be a slot to reserve, and right after it was
/// made. The same each time; made at the first call.
///
/// Reserve with timeout 0 until it returns SHMSLOT_E_NO_FREE_SLOT, then wait for the descriptor: that
/// call has armed it. shmslot_wait_space and shmslot_wait_readers with timeout 0 arm it when they
/// return SHMSLOT_E_AGAIN. If shmslot_writer_end_waits asks for RETIRED, that stands for both codes.
/// One thread makes these calls. For the rest it is as shmslot_reader_fd says; shmslot_writer_close
/// closes it.
///
/// flags: 0 or SHMSLOT_FD_MANUAL; what the first call says is so. ret_fd: the number. reterr: NULL
/// or filled on failure.
/// Threads: see shmslot_writer. Errors: as shmslot_reader_fd. Since 0.2.
int shmslot_writer_fd(shmslot_writer *writer, uint32_t flags, int *ret_fd, shmslot_error *reterr);

/// Arms the descriptor of a writer, and looks once more. 0: armed, and no slot is free. 1: there may
/// be a slot to reserve.
///
/// Threads: see shmslot_writer. Errors: INVALID (also if shmslot_writer_fd was not called), RETIRED
/// (as shmslot_writer_end_waits says; it is armed then), DESCRIPTOR_LOST, CORRUPT. Since 0.2.
int shmslot_writer_fd_arm(shmslot_writer *writer);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMSLOT_EVENTS_H */
