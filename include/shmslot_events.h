/**
 * @file shmslot_events.h
 * Readers and writers in event loops: each has one descriptor, which poll, epoll and every loop
 * can wait for, or many of them share the descriptor of a set. docs/events.md has the rule for
 * each loop.
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
int shmslot_writer_fd(shmslot_writer *writer, uint32_t flags, int *ret_fd, shmslot_error *reterr);

/// Arms the descriptor of a writer, and looks once more. 0: armed, and no slot is free. 1: there
/// may be a slot to reserve. It is armed in either case: who needs more than a slot, memory for a
/// large payload, tries once more and then waits.
///
/// Threads: see shmslot_writer. Errors: INVALID (also if shmslot_writer_fd was not called), RETIRED
/// (as shmslot_writer_end_waits says; it is armed then), DESCRIPTOR_LOST, CORRUPT. Since 0.2.
int shmslot_writer_fd_arm(shmslot_writer *writer);

/* ---- Wait sets ---- */

/// Flag of shmslot_set_create: the set tells of each change once, as EPOLLET does. Then a member is
/// used until its call has found nothing, and shmslot_set_wait is called until it returns 0, before
/// a loop waits for the descriptor. That saves one system call a turn.
#define SHMSLOT_SET_EDGE 1

/// shmslot_event.what: a reader may have a sample; read until there is none.
#define SHMSLOT_EVENT_DATA 1

/// shmslot_event.what: a writer may have a slot; reserve with timeout 0 until there is none.
#define SHMSLOT_EVENT_SPACE 2

/// shmslot_event.what: a segment has changed since it was told last.
#define SHMSLOT_EVENT_CHANGE 4

/// shmslot_event.what: a trigger was fired.
#define SHMSLOT_EVENT_TRIGGER 8

/// Readers, writers, segments and triggers of any number, behind one descriptor. Threads: one at a
/// time, for the set and its members.
typedef struct shmslot_set shmslot_set;

/// Lets any thread make a set tell something. Threads: any.
typedef struct shmslot_trigger shmslot_trigger;

/// One thing that a set tells.
typedef struct shmslot_event {
    /// The number with which it was added.
    uint64_t cookie;
    /// One of SHMSLOT_EVENT_....
    uint32_t what;
    /// 0.
    uint32_t reserved;
} shmslot_event;

/// Makes a set without members.
///
/// flags: 0 or SHMSLOT_SET_EDGE. ret_set: close it with shmslot_set_close. reterr: NULL or filled
/// on failure. Threads: any. Errors: INVALID, NOT_SUPPORTED (no /proc, or a system that does not
/// tell of accesses), PERMISSION, NO_MEMORY, DESCRIPTOR_LOST, SYS (EMFILE: no inotify instance or
/// no descriptor is left; ENOSPC: no inotify watch). Since 0.2.
int shmslot_set_create(uint32_t flags, shmslot_set **ret_set, shmslot_error *reterr);

/// Closes a set; NULL is fine. Its members stay open, and can enter another set or have a
/// descriptor; its triggers tell nobody any more. Threads: any, once, while no other call but
/// shmslot_trigger_fire uses it. Since 0.2.
void shmslot_set_close(shmslot_set *set);

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
int shmslot_set_add_reader(shmslot_set *set, shmslot_reader *reader, uint64_t cookie,
                           shmslot_error *reterr);

/// Adds a writer, as shmslot_set_add_reader does a reader. The set goes on telling of it until a
/// reserve with timeout 0 has returned SHMSLOT_E_NO_FREE_SLOT, or one of the calls has found
/// nothing that shmslot_writer_fd names.
///
/// Threads: see shmslot_set. Errors: as shmslot_set_add_reader. Since 0.2.
int shmslot_set_add_writer(shmslot_set *set, shmslot_writer *writer, uint64_t cookie,
                           shmslot_error *reterr);

/// Adds a segment: the set tells of it once, and then whenever there was a commit, a discard, a
/// mark or a death since it was told last. It may be closed at any time; that removes it.
///
/// Threads: see shmslot_set. Errors: as shmslot_set_add_reader, and NOT_SUPPORTED for an observer.
/// Since 0.2.
int shmslot_set_add_segment(shmslot_set *set, shmslot_segment *segment, uint64_t cookie,
                            shmslot_error *reterr);

/// Adds a trigger.
///
/// ret_trigger: close it with shmslot_trigger_close; the set keeps its number until
/// shmslot_set_remove. reterr: NULL or filled on failure. Threads: see shmslot_set. Errors:
/// INVALID, EXISTS (the cookie). Since 0.2.
int shmslot_set_add_trigger(shmslot_set *set, uint64_t cookie, shmslot_trigger **ret_trigger,
                            shmslot_error *reterr);

/// Makes the set tell of this trigger, once, however often it is fired before. Makes at most one
/// system call, and none if it was fired before and not told.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
int shmslot_trigger_fire(shmslot_trigger *trigger);

/// Closes a trigger; NULL is fine. Before or after its set. Threads: any, once, while no other call
/// uses it. Since 0.2.
void shmslot_trigger_close(shmslot_trigger *trigger);

/// Removes what was added with this number. A reader or a writer can then have a descriptor, or
/// enter another set. Threads: see shmslot_set. Errors: INVALID, NOT_FOUND. Since 0.2.
int shmslot_set_remove(shmslot_set *set, uint64_t cookie);

/// The descriptor of a set for an event loop: readable when shmslot_set_wait may have something to
/// tell, and right after the set was made. It is the set's, as shmslot_reader_fd says of a
/// reader's. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_set_fd(const shmslot_set *set);

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
int shmslot_set_wait(shmslot_set *set, int64_t timeout_ns, shmslot_event *ret_events, size_t max);

/// Ends one wait of the set, the running one or else the next that has nothing to tell, with
/// SHMSLOT_E_INTERRUPTED. Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
int shmslot_set_interrupt(shmslot_set *set);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMSLOT_EVENTS_H */
