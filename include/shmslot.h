/**
 * @file shmslot.h
 * shmslot passes messages between the processes of one machine through shared memory, without
 * copies or a daemon.
 *
 * A segment of shared memory holds fixed slots. A writer reserves a slot, fills it in place and
 * commits it; every reader reads it in place and marks it when done. Idle processes sleep on a
 * futex. Event loops are in shmslot_events.h, channels and pools in shmslot_pool.h, and calls for
 * middleware that tracks its readers itself in shmslot_reference.h.
 *
 * - Results: 0 or greater is success. A failure is one of SHMSLOT_E_..., all negative;
 *   shmslot_strerror says what to do. Error lists below omit the prefix. Every call may return
 *   PANIC (a defect of the library) or FORKED.
 * - Outputs: ret_... come last and are written on success only. reterr is filled on failure only,
 *   and may be NULL.
 * - Time: int64_t nanoseconds of the monotonic clock. 0 does not wait: nothing there is AGAIN. -1
 *   waits without limit. Anything else ends with TIMEOUT. An interrupt call ends a wait; a signal
 *   does so only after one of the end_waits calls has asked for it.
 * - Handles are opaque. Each is closed once, in any order; closing accepts NULL. The mapping lives
 *   as long as any handle or sample needs it.
 * - Fork: a child cannot use its parent's handles. Calls return FORKED there, and closing is fine.
 *   It attaches anew; for that, shmslot_segment_fd, shmslot_segment_path, the sizes of a slot and
 *   shmslot_channel_fd still answer.
 * - Death: a process may die at any instruction, even by SIGKILL. It blocks nobody, and others
 *   release what it had.
 * - Descriptors of the library are never 0, 1 or 2. Do not close them. A call that needs one which
 *   the program has closed or replaced returns DESCRIPTOR_LOST; calls that need only the mapping
 *   still work, and nobody takes the process for dead.
 * - Cancellation: no call is a cancellation point (pthread_cancel). A request stays pending until
 *   the thread reaches one of its own. Asynchronous cancellation is not safe in any call.
 * - Core dumps contain the control part of a segment, but no payloads and no user headers. mlockall
 *   locks slots, but not the memory of regions; docs/deployment.md says more.
 * - The library prints nothing, starts no thread, handles no signal and reads no environment. One
 *   exception: when malloc fails for a small object, Rust's runtime writes one line and aborts.
 * - Sizes are bytes. Payload memory is shared: a write without a loan corrupts what others read.
 */

#ifndef SHMSLOT_H
#define SHMSLOT_H

/* Generated from src/ffi; tests/header.rs compares and rewrites it. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Library: its version, the codes of failures and their texts ---- */

/// Major version of this header.
#define SHMSLOT_VERSION_MAJOR 0

/// Minor version of this header.
#define SHMSLOT_VERSION_MINOR 2

/// Patch version of this header.
#define SHMSLOT_VERSION_PATCH 0

/// Version of this header, as shmslot_version() returns that of the library: major * 65536 + minor
/// * 256 + patch.
#define SHMSLOT_VERSION 512

/// Success. Every other success is positive.
#define SHMSLOT_OK 0

/// The kind of a failure: what a call returns, if it is negative. A number is never reused.
typedef enum shmslot_e {
    /// A pointer is NULL or an argument is impossible.
    SHMSLOT_E_INVALID = -1,
    /// Memory, or space in the shared-memory file system, is exhausted.
    SHMSLOT_E_NO_MEMORY = -2,
    /// A system call failed; `os_errno` tells which.
    SHMSLOT_E_SYS = -3,
    /// A live segment, or a listener, already has this name.
    SHMSLOT_E_EXISTS = -4,
    /// No segment has this name, nobody listens there, or the directory does not exist.
    SHMSLOT_E_NOT_FOUND = -5,
    /// The segment or the other end of a channel belongs to somebody else, or may not be opened.
    SHMSLOT_E_PERMISSION = -6,
    /// The file was not made by this library.
    SHMSLOT_E_NOT_A_SEGMENT = -7,
    /// The segment speaks another layout version, byte order or feature set.
    SHMSLOT_E_LAYOUT_VERSION = -8,
    /// The segment carries another type than the caller expects.
    SHMSLOT_E_TYPE_MISMATCH = -9,
    /// The segment contradicts itself.
    SHMSLOT_E_CORRUPT = -10,
    /// Nothing to read now.
    SHMSLOT_E_AGAIN = -11,
    /// The deadline passed.
    SHMSLOT_E_TIMEOUT = -12,
    /// The wait was ended by an interrupt call.
    SHMSLOT_E_INTERRUPTED = -13,
    /// Every slot, or for a large payload every region, is loaned, held or unread.
    SHMSLOT_E_NO_FREE_SLOT = -14,
    /// The payload is larger than max_payload allows, or than the buffer.
    SHMSLOT_E_TOO_LARGE = -15,
    /// A token that was used already, belongs to another segment, or was never given out.
    SHMSLOT_E_STALE = -16,
    /// As many readers as the segment allows are joined.
    SHMSLOT_E_NO_READER_SLOT = -17,
    /// The operation does not exist for this kind of segment or on this system.
    SHMSLOT_E_NOT_SUPPORTED = -18,
    /// A defect in the library was caught; the handle is unusable.
    SHMSLOT_E_PANIC = -19,
    /// The name of a segment or channel is malformed.
    SHMSLOT_E_BAD_NAME = -20,
    /// A timeout below -1.
    SHMSLOT_E_BAD_TIMEOUT = -21,
    /// An options field is out of its range.
    SHMSLOT_E_BAD_OPTIONS = -22,
    /// A reader index is out of range or belongs to somebody else.
    SHMSLOT_E_BAD_INDEX = -23,
    /// More bytes committed than were reserved.
    SHMSLOT_E_BAD_LENGTH = -24,
    /// The path names a directory, socket, pipe or device.
    SHMSLOT_E_NOT_A_FILE = -25,
    /// The file is shorter than its header says.
    SHMSLOT_E_TRUNCATED = -26,
    /// The file descriptor lacks the seals that make it safe to map.
    SHMSLOT_E_NOT_SEALED = -27,
    /// A single-writer segment already has its writer.
    SHMSLOT_E_WRITER_EXISTS = -28,
    /// As many participants as the segment allows are attached.
    SHMSLOT_E_NO_PARTICIPANT_SLOT = -29,
    /// This reader already holds that sample.
    SHMSLOT_E_HELD = -30,
    /// The file is empty.
    SHMSLOT_E_EMPTY = -31,
    /// This writer has as many loans out as its limit allows.
    SHMSLOT_E_LOAN_LIMIT = -32,
    /// The handle was made before a fork, by the parent.
    SHMSLOT_E_FORKED = -33,
    /// A process that was attached died.
    SHMSLOT_E_PEER_DEAD = -34,
    /// No process has a writer open.
    SHMSLOT_E_NO_WRITERS = -35,
    /// No region of this number and generation is known.
    SHMSLOT_E_UNKNOWN_MAPPING = -36,
    /// A reference reaches beyond the end of its region.
    SHMSLOT_E_OUT_OF_BOUNDS = -37,
    /// The sum of an offset and a length is larger than a number can be.
    SHMSLOT_E_OVERFLOW = -38,
    /// The other end of a channel is gone, or violated the channel protocol.
    SHMSLOT_E_CHANNEL_BROKEN = -39,
    /// Another process is replacing or unlinking this name, and has not finished.
    SHMSLOT_E_NAME_BUSY = -40,
    /// The program closed or replaced a descriptor of the library.
    SHMSLOT_E_DESCRIPTOR_LOST = -41,
    /// The existing segment does not give what the options ask for.
    SHMSLOT_E_OPTIONS_MISMATCH = -42,
    /// The segment has lost its name.
    SHMSLOT_E_RETIRED = -43,
    /// This reader holds as many samples as the segment allows.
    SHMSLOT_E_HELD_LIMIT = -44,
    /// More readers than one wait takes.
    SHMSLOT_E_TOO_MANY = -45,
    /// Another process ended the membership of this reader.
    SHMSLOT_E_EXPELLED = -46,
} shmslot_e;

/// What a failed call can tell beside its code. Owned by the caller; written on failure only.
typedef struct shmslot_error {
    /// The code that the call returned.
    int32_t code;
    /// The kernel's error number (errno), or 0.
    int32_t os_errno;
    /// Those in the text, in their order, or 0; docs/guide.md says which they are for each code.
    uint64_t numbers[3];
    /// What it was about and what to do; ends in a NUL.
    char text[512];
} shmslot_error;

/// The version of the library that is running: major * 65536 + minor * 256 + patch. Compare it with
/// SHMSLOT_VERSION, which is the version of the header. Threads: any. Since 0.2.
uint32_t shmslot_version(void);

/// What a code means and what to do, in one line; static, and never NULL, whatever the number.
/// Threads: any. Since 0.2.
const char *shmslot_strerror(int code);

/* ---- Options: how to make a segment, how to attach to one, and what ends waits ---- */
/// The initial value of a shmslot_options: all defaults.
#define SHMSLOT_OPTIONS_INIT \
    {sizeof(shmslot_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, NULL}
/// The initial value of a shmslot_attach_options: all defaults.
#define SHMSLOT_ATTACH_OPTIONS_INIT \
    {sizeof(shmslot_attach_options), 0, 0, 0, {0}, NULL}

/// Flag of create and open: one writer at a time. Cheaper; a second writer gets
/// SHMSLOT_E_WRITER_EXISTS.
#define SHMSLOT_FLAG_SINGLE_WRITER 1

/// Flag of create and open: each commit notes the monotonic time in its sample; about 25 ns a
/// sample.
#define SHMSLOT_FLAG_TIMESTAMPS 2

/// Flag: map all pages at once, not at their first use.
#define SHMSLOT_FLAG_PREFAULT 4

/// Flag: ask for huge pages; shmslot_info.huge_bytes says what was obtained.
#define SHMSLOT_FLAG_HUGE_PAGES 8

/// Flag: accept a segment of another user, or one whose mode was loosened, if one is there already.
#define SHMSLOT_FLAG_ANY_OWNER 16

/// Flag of attach: map read-only and join nothing. Only calls that change nothing work then: info,
/// counters, readers, writers, participants, deaths, path, fd, sizes, and reading by shmslot_ref_
/// calls.
#define SHMSLOT_FLAG_OBSERVER 32

/// Flag: copies of 64 KiB and more into payloads go around the caches. That takes less than half
/// the time where writer and reader do not share a cache, and more than twice where they do.
#define SHMSLOT_FLAG_STREAM_COPIES 128

/// Flag of create and open: take a segment that is there already whatever geometry it has, as
/// attach does.
#define SHMSLOT_FLAG_ANY_GEOMETRY 256

/// Flag of create and open: the name goes with the last participant: when it closes, or, if it was
/// killed, with the next call that attaches to the name (an observer does not), opens it, or
/// removes what is dead (shmslot_segment_unlink_dead). if_orphaned is of no use then.
#define SHMSLOT_FLAG_EPHEMERAL 512

/// Policy: a reserve that finds nothing free waits until a reader has marked enough. The default.
#define SHMSLOT_POLICY_BLOCK 1

/// Policy: a reserve that finds nothing free fails at once, whatever its timeout: it never waits.
#define SHMSLOT_POLICY_FAIL 2

/// Policy: a reserve that finds nothing free takes the oldest sample that no reader holds away from
/// those that have not read it.
#define SHMSLOT_POLICY_DROP_OLDEST 3

/// if_orphaned: give the name of a segment that nobody is attached to any more to the new one.
#define SHMSLOT_ORPHANED_REPLACE 0

/// if_orphaned: attach to it as it is, if it gives what is asked; see shmslot_segment_open.
#define SHMSLOT_ORPHANED_ADOPT 1

/// if_orphaned: fail with SHMSLOT_E_EXISTS.
#define SHMSLOT_ORPHANED_REFUSE 2

/// spin_ns: a wait does not poll, it sleeps at once.
#define SHMSLOT_SPIN_NONE 1

/// End of waits: no process has a writer open, and everything was read; the wait returns
/// SHMSLOT_E_NO_WRITERS.
#define SHMSLOT_END_NO_WRITERS 1

/// End of waits: a process that was attached died and has been recovered; the wait returns
/// SHMSLOT_E_PEER_DEAD once for each time that this is noticed; shmslot_segment_deaths tells who.
#define SHMSLOT_END_PEER_DEAD 2

/// End of waits: the segment has lost its name, so that a process which attaches by that name gets
/// another segment; the wait returns SHMSLOT_E_RETIRED. At once after shmslot_segment_unlink; after
/// up to 200 ms where the name went in another way (rm, RemoveIPC of systemd). Then open or attach
/// by name again.
#define SHMSLOT_END_RETIRED 8

/// A signal handler has run in the thread that sleeps: the wait ends with INTERRUPTED. Without it,
/// signals do not end waits. A signal that comes before the sleep, as while the wait polls, is not
/// noticed; a handler that must not be missed calls shmslot_reader_interrupt or
/// shmslot_writer_interrupt. With or without SA_RESTART, except that a shmslot_wait_any of several
/// readers continues after a handler with SA_RESTART. Since 0.2.
#define SHMSLOT_END_SIGNAL 4

/// State: unknown, because this process may not open the file.
#define SHMSLOT_STATE_UNKNOWN 0

/// State: a process, which may be stopped, is attached to the segment.
#define SHMSLOT_STATE_ALIVE 1

/// State: no process is attached to the segment.
#define SHMSLOT_STATE_DEAD 2

/// How to make or open a segment. Begin with SHMSLOT_OPTIONS_INIT and set what you need: zero is
/// the default of each field.
typedef struct shmslot_options {
    /// sizeof(shmslot_options); SHMSLOT_OPTIONS_INIT fills it.
    uint32_t struct_size;
    /// Any of SHMSLOT_FLAG_... but OBSERVER. Without a name also none of ANY_OWNER, ANY_GEOMETRY
    /// and EPHEMERAL.
    uint32_t flags;
    /// Number of slots, 1 to 16777216; default 64.
    uint32_t slot_count;
    /// Alignment of each payload in bytes, a power of two from 64 to 4096; default 64.
    uint32_t payload_align;
    /// Payload bytes of a slot, 1 to 4294967296; default 4096.
    uint64_t slot_capacity;
    /// Bytes of user header beside each slot, 0 to 256; default 0.
    uint32_t user_header_size;
    /// Readers that may be joined at once, 1 to 63; default 15. More than 15 cost a little more.
    uint32_t max_readers;
    /// Processes that may be attached at once, 1 to 4095; default 64.
    uint32_t max_participants;
    /// Samples kept for readers that join later, less than slot_count; default 0.
    uint32_t history;
    /// SHMSLOT_POLICY_BLOCK, _FAIL or _DROP_OLDEST; default SHMSLOT_POLICY_BLOCK.
    uint32_t policy;
    /// Permission bits of a named segment, 0600 plus any of 0066; default 0600.
    uint32_t mode;
    /// What to do when the name belongs to a segment that nobody is attached to; default
    /// SHMSLOT_ORPHANED_REPLACE.
    uint32_t if_orphaned;
    /// How long a wait polls before it sleeps, in nanoseconds, or SHMSLOT_SPIN_NONE; default 10000.
    uint32_t spin_ns;
    /// Loans that one writer may have out at once; default no limit.
    uint32_t max_loans;
    /// How many payloads larger than slot_capacity may be there at once: loaned, unread, held or
    /// retained. More than history, at most 63; default 8, or history + 2.
    uint32_t region_count;
    /// Samples that one reader may hold at once: read or peeked, and not marked. A reader that
    /// holds as many gets SHMSLOT_E_HELD_LIMIT for the next. Default no limit.
    uint32_t max_held;
    /// Must be 0.
    uint32_t reserved;
    /// Largest payload of all, up to 4294967296. Payloads larger than slot_capacity go to regions,
    /// which take memory when they are used and keep it for the next. Default slot_capacity: no
    /// regions.
    uint64_t max_payload;
    /// Identity of the sample type; all zero is none.
    uint8_t type_hash[16];
    /// Name of the sample type, at most 63 bytes, or NULL. Read during the call only.
    const char *type_name;
} shmslot_options;

/// How to attach to a segment. Begin with SHMSLOT_ATTACH_OPTIONS_INIT and set what you need: zero
/// is the default of each field. Since 0.2.
typedef struct shmslot_attach_options {
    /// sizeof(shmslot_attach_options); SHMSLOT_ATTACH_OPTIONS_INIT fills it.
    uint32_t struct_size;
    /// Any of SHMSLOT_FLAG_PREFAULT, _HUGE_PAGES, _STREAM_COPIES, _ANY_OWNER and _OBSERVER.
    uint32_t flags;
    /// How long a wait polls before it sleeps, in nanoseconds, or SHMSLOT_SPIN_NONE; default 10000.
    uint32_t spin_ns;
    /// Loans that one writer may have out at once; default no limit.
    uint32_t max_loans;
    /// Identity that the sample type must have; all zero is any.
    uint8_t type_hash[16];
    /// Name that the sample type must have, at most 63 bytes; NULL is any. Read during the call
    /// only.
    const char *type_name;
} shmslot_attach_options;

/// The geometry of a segment, and its use at this moment.
typedef struct shmslot_info {
    /// Random number that tells this segment from every other.
    uint64_t segment_id;
    /// Bytes of the whole segment.
    uint64_t total_size;
    /// Bytes of this mapping in huge pages, as far as they were asked for.
    uint64_t huge_bytes;
    /// The sequence that the next sample gets; the first is 1.
    uint64_t next_sequence;
    /// Joined readers: reader i is bit i.
    uint64_t readers;
    /// Payload bytes of a slot.
    uint64_t slot_capacity;
    /// Number of slots.
    uint32_t slot_count;
    /// Attached processes.
    uint32_t participants;
    /// Alignment of each payload in bytes.
    uint32_t payload_align;
    /// Bytes of user header beside each slot.
    uint32_t user_header_size;
    /// Readers that may be joined at once.
    uint32_t max_readers;
    /// Processes that may be attached at once.
    uint32_t max_participants;
    /// Samples kept for readers that join later.
    uint32_t history;
    /// SHMSLOT_POLICY_BLOCK, _FAIL or _DROP_OLDEST.
    uint32_t policy;
    /// SHMSLOT_FLAG_SINGLE_WRITER, SHMSLOT_FLAG_TIMESTAMPS and SHMSLOT_FLAG_EPHEMERAL, as the
    /// segment was created.
    uint32_t flags;
    /// Permission bits that the creator gave it.
    uint32_t mode;
    /// Version of the bytes in shared memory.
    uint32_t layout_version;
    /// Payloads in regions that may be there at once; 0 without regions.
    uint32_t region_count;
    /// Largest payload of all.
    uint64_t max_payload;
    /// Memory of all regions.
    uint64_t region_bytes;
    /// Identity of the sample type, all zero if there is none.
    uint8_t type_hash[16];
    /// Name of the sample type; ends in a NUL.
    char type_name[64];
    /// 1 once shmslot_segment_unlink, or a call that replaced the segment, has taken its name away.
    /// A name that went in another way is noticed by shmslot_segment_is_named, and in waits that
    /// SHMSLOT_END_RETIRED ends. Since 0.2.
    uint32_t retired;
    /// Samples that one reader may hold at once; 0 for no limit.
    uint32_t max_held;
} shmslot_info;

/// A process that is attached to a segment, or died and has not been recovered yet.
typedef struct shmslot_participant {
    /// Its index, from 0.
    uint32_t index;
    /// Its process number, as its own pid namespace has it.
    uint32_t pid;
    /// 1 if it lives (a stopped process does), 0 if it is dead.
    uint32_t alive;
    /// Writers that it has open.
    uint32_t writers;
    /// Its readers, reader i as bit i: joined, or left and still holding samples.
    uint64_t readers;
} shmslot_participant;

/// A segment as shmslot_segment_list finds it in a directory.
typedef struct shmslot_segment_entry {
    /// Bytes of the file.
    uint64_t size;
    /// Random number that tells it from every other; 0 if it cannot be read.
    uint64_t segment_id;
    /// SHMSLOT_STATE_ALIVE, _DEAD or _UNKNOWN.
    uint32_t state;
    /// 0, or why shmslot_segment_attach would refuse it, with default options and as far as can be
    /// told without attaching: SHMSLOT_E_LAYOUT_VERSION, SHMSLOT_E_CORRUPT, SHMSLOT_E_TRUNCATED,
    /// SHMSLOT_E_EMPTY, SHMSLOT_E_PERMISSION.
    int32_t refusal;
    /// Attached processes, and those that died and have not been recovered; 0 if it cannot be read.
    uint32_t participants;
    /// Version of its bytes; 0 if it cannot be read.
    uint32_t layout_version;
    /// Its user.
    uint32_t owner;
    /// Permission bits of the file.
    uint32_t mode;
    /// SHMSLOT_FLAG_EPHEMERAL, or 0.
    uint32_t flags;
    /// 0.
    uint32_t reserved;
    /// Its name, which ends in a NUL: in the system's directory what other calls take, elsewhere
    /// the file's own name.
    char name[256];
} shmslot_segment_entry;

/// The identity of a sample type, to be put into type_hash: of its name, 1 to 63 bytes of UTF-8,
/// and its size in bytes. It is made in the same way in C, C++ and Rust: bindings/README.md says
/// how. Change the name whenever the meaning of the bytes changes.
/// ret_hash: &options.type_hash. Threads: any. Errors: INVALID (also a name of another length).
/// Since 0.2.
int shmslot_type_hash(const char *name, uint64_t size, uint8_t (*ret_hash)[16]);

/* ---- Segments: make, attach, inspect, recover, close ---- */

/// An attachment of this process to a segment. Threads: any.
typedef struct shmslot_segment shmslot_segment;

/// Makes a segment and gives it its name in one step: nobody ever sees a half-made one. Allocates
/// all its memory.
///
/// A name of 1 to 200 bytes of UTF-8 without '/' is the file shmslot.NAME in the system's
/// shared-memory directory; an absolute path is used as it is. If a segment that nobody is attached
/// to any more has the name, options.if_orphaned decides. One that this version cannot attach to
/// (another layout version, corrupt, cut, its mode loosened) can be replaced, too; so can an empty
/// file of this user whose name begins with "shmslot.". Any other file stays.
///
/// options: NULL for all defaults. ret_segment: close it with shmslot_segment_close. reterr: NULL
/// or filled on failure.
/// Threads: any. Errors: INVALID, BAD_NAME, BAD_OPTIONS, EXISTS, NOT_FOUND (no such directory),
/// NAME_BUSY, PERMISSION, NO_MEMORY, NOT_SUPPORTED (file system without unnamed files, no /proc),
/// OPTIONS_MISMATCH (ADOPT), SYS, and of a file of this name that is no segment what
/// shmslot_segment_attach says. Since 0.2.
int shmslot_segment_create(const char *name, const shmslot_options *options,
                           shmslot_segment **ret_segment, shmslot_error *reterr);

/// Makes a segment without a name, in a memory file that is sealed against change of size. Others
/// attach through its descriptor: inherit it, or pass it over a unix socket.
/// Arguments and threads as in shmslot_segment_create. Errors: INVALID, BAD_OPTIONS, NO_MEMORY,
/// SYS. Since 0.2.
int shmslot_segment_create_anonymous(const shmslot_options *options, shmslot_segment **ret_segment,
                                     shmslot_error *reterr);

/// Makes a segment in private memory of this process: the same calls between threads, and for
/// tests. No name, no descriptor.
/// Arguments and threads as in shmslot_segment_create. Errors: INVALID, BAD_OPTIONS, NO_MEMORY,
/// SYS. Since 0.2.
int shmslot_segment_create_local(const shmslot_options *options, shmslot_segment **ret_segment,
                                 shmslot_error *reterr);

/// Attaches to the segment of this name. Everything in it is checked before it is used; a file that
/// is no segment, or a corrupt one, is an error and nothing worse. But nobody must cut the file
/// later: then touching it raises SIGBUS. A sealed one (shmslot_segment_create_anonymous) cannot be
/// cut.
///
/// options: NULL for all defaults. Other arguments as in shmslot_segment_create.
/// Threads: any. Errors: INVALID, BAD_NAME, BAD_OPTIONS, NOT_FOUND, NAME_BUSY, PERMISSION,
/// NOT_A_FILE, EMPTY, NOT_A_SEGMENT, TRUNCATED, LAYOUT_VERSION, CORRUPT, TYPE_MISMATCH,
/// NO_PARTICIPANT_SLOT, NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_attach(const char *name, const shmslot_attach_options *options,
                           shmslot_segment **ret_segment, shmslot_error *reterr);

/// Attaches as soon as a segment has this name, even a dead one. It sleeps where the kernel reports
/// new files, and with looks 50 ms apart at most where it does not. Signals do not end it.
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: any. Errors: those of
/// shmslot_segment_attach, NOT_FOUND if there is no such directory, BAD_TIMEOUT, AGAIN (timeout 0),
/// TIMEOUT. Since 0.2.
int shmslot_segment_attach_wait(const char *name, const shmslot_attach_options *options,
                                int64_t timeout_ns, shmslot_segment **ret_segment,
                                shmslot_error *reterr);

/// Attaches to the segment behind a descriptor of shmslot_segment_create_anonymous, inherited or
/// received. The descriptor stays the caller's, who may close it after the call.
/// Threads: any. Errors: those of shmslot_segment_attach, NOT_SEALED if somebody could still change
/// its size, and NOT_SUPPORTED if /proc is not mounted. Since 0.2.
int shmslot_segment_attach_fd(int fd, const shmslot_attach_options *options,
                              shmslot_segment **ret_segment, shmslot_error *reterr);

/// Attaches to the segment of this name, or creates it. Of several processes that do so at once one
/// creates. If nobody is attached to it, options.if_orphaned decides, with REFUSE like ADOPT.
///
/// What is there must give what is asked: counts and sizes not less; user_header_size, max_held,
/// policy, type, SINGLE_WRITER, TIMESTAMPS and EPHEMERAL the same. Fields that are 0 and flags that
/// are off ask nothing. Otherwise the call returns OPTIONS_MISMATCH or TYPE_MISMATCH, and attaches
/// nothing. By default a segment that nobody is attached to is replaced, and its samples are lost:
/// for example those of a publisher that ended before its readers began. ADOPT keeps as many as
/// options.history.
/// Returns 1 if this call created the segment, which has no sample then, and 0 if it attached.
/// Arguments and errors as in shmslot_segment_create and shmslot_segment_attach. Threads: any.
/// Since 0.2.
int shmslot_segment_open(const char *name, const shmslot_options *options,
                         shmslot_segment **ret_segment, shmslot_error *reterr);

/// Removes the name of a segment, and never that of another segment which gets the name meanwhile.
/// Attached processes stay attached, and learn of it by shmslot_info.retired,
/// shmslot_segment_is_named, and waits that SHMSLOT_END_RETIRED ends. The memory goes with the last
/// of them. A segment of another layout version is unlinked only if nobody is attached.
/// Threads: any. Errors: INVALID, BAD_NAME, NOT_FOUND (also if another call was faster), NAME_BUSY,
/// PERMISSION, NOT_A_FILE, EMPTY and NOT_A_SEGMENT (nothing is removed that this library did not
/// make), LAYOUT_VERSION and TRUNCATED (a process is attached), NO_MEMORY, SYS (also if the file is
/// a mount point). Since 0.2.
int shmslot_segment_unlink(const char *name, shmslot_error *reterr);

/// The segments of a directory, without attaching to any and without changing anything; also dead
/// ones, and those of other users and layout versions. Whatever else is in the directory is left
/// out. For each file it makes a few system calls, and reads at most 4096 rows of participants.
/// directory: a path, or NULL for the system's; there only names that begin with "shmslot." count.
/// array: room for capacity of them, element_size bytes each: sizeof(shmslot_segment_entry). NULL
/// if capacity is 0.
/// ret_count: how many there are, which may be more than there was room for. reterr: NULL or filled
/// on failure.
/// Threads: any. Errors: INVALID, NOT_FOUND, PERMISSION, BAD_NAME (of the directory), NO_MEMORY,
/// SYS. Since 0.2.
int shmslot_segment_list(const char *directory, shmslot_segment_entry *array, size_t element_size,
                         size_t capacity, size_t *ret_count, shmslot_error *reterr);

/// Unlinks each segment of a directory that belongs to this user and that no process is attached
/// to, of whatever layout version, and so frees its memory. The kernel proves that nobody is
/// attached; a stopped process is attached. A process that attaches at that moment gets the
/// segment, or NOT_FOUND. Whatever is no segment stays. Nothing waits: a name that another process
/// is just taking away is left to it. Copies of segments, such as backups, are unlinked as well.
/// directory: as in shmslot_segment_list. ret_removed: how many were unlinked; NULL if not wanted.
/// reterr: NULL or filled on failure. If one cannot be unlinked, the call unlinks the others, and
/// returns the error of that one.
/// Threads: any. Errors: those of shmslot_segment_list. Since 0.2.
int shmslot_segment_unlink_dead(const char *directory, uint32_t *ret_removed,
                                shmslot_error *reterr);

/// Closes the handle; NULL is fine. Never fails and never waits. Writers, readers and samples of it
/// may be closed before or after: the mapping lives as long as any of them. A named segment keeps
/// its name until it is unlinked; one made with SHMSLOT_FLAG_EPHEMERAL loses it with the last
/// participant.
/// Threads: any, once. Since 0.2.
void shmslot_segment_close(shmslot_segment *segment);

/// The geometry of the segment, and its use at this moment. info_size: sizeof(shmslot_info); fields
/// that an older library does not know are 0. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_segment_info(const shmslot_segment *segment, shmslot_info *ret_info, size_t info_size);

/// Whether the name of this segment still leads to it: 1, or 0 if it leads to another file or to
/// none, for whatever reason (shmslot_segment_unlink, rm, RemoveIPC of systemd). Where the answer
/// is 0, a process that attaches by the name gets another segment; open or attach again to join it.
/// The path is looked at as this process sees it.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (without a name), PERMISSION (a directory of the
/// path may not be searched any more), NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_is_named(const shmslot_segment *segment);

/// Every process that is attached, and those that died and have not been recovered yet.
/// array: room for capacity of them, element_size bytes each: sizeof(shmslot_participant). NULL if
/// capacity is 0.
/// ret_count: how many there are, which may be more than there was room for. Looking makes a few
/// system calls for each. Of more than 256, one that has executed another program may count as
/// alive in some calls.
/// Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_participants(const shmslot_segment *segment, shmslot_participant *array,
                                 size_t element_size, size_t capacity, size_t *ret_count);

/// Recovers processes that died while they were attached; returns how many, 0 or greater.
///
/// Their loans, their unread samples, the samples they held and their rows are released, and what
/// they were committing is finished or undone. Every sleeper looks again. Death is reported by the
/// kernel; a stopped process is not dead. Any process may call it at any time, several at once. It
/// is rarely needed: it runs by itself on attach, when a reserve finds nothing free (once a
/// millisecond at most), when no place for a reader or a single writer is left, and every 200 ms in
/// a wait; if there are more than 64 participants, each such look checks some of them, and the next
/// look continues there.
///
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer),
/// NO_MEMORY, SYS, CORRUPT. Since 0.2.
int shmslot_segment_recover(shmslot_segment *segment, shmslot_error *reterr);

/// Ends the membership of a reader whose process lives, for example one that is stuck.
///
/// Its unread samples are released, and nothing more is owed to it. What it holds stays valid until
/// it is marked, and so does a sample that it is taking at this moment. Its reads and waits return
/// SHMSLOT_E_EXPELLED from now on; its index is free when it has left. Without
/// SHMSLOT_POLICY_DROP_OLDEST the call takes milliseconds. It may be repeated.
///
/// reader, generation: from shmslot_reader_counters; no later reader is expelled in its place.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, NOT_FOUND (it has left), AGAIN
/// (another process is expelling it), BAD_INDEX, NOT_SUPPORTED (an observer; or a system without
/// membarrier: then the reader is stopped, and its unread samples stay), CORRUPT. Since 0.2.
int shmslot_segment_expel(shmslot_segment *segment, uint32_t reader, uint32_t generation,
                          shmslot_error *reterr);

/// Returns the memory of all unused regions to the system. Otherwise regions keep it for the next
/// payload, because new memory costs far more than used memory. ret_bytes: how much it was, or
/// NULL. Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer), NO_MEMORY, SYS, CORRUPT.
/// Since 0.2.
int shmslot_segment_trim(shmslot_segment *segment, uint64_t *ret_bytes);

/// A descriptor of the segment, 0 or greater, to be passed on or duplicated. It stays the
/// segment's: do not close it. A process that has it can attach. It does not keep this participant
/// alive.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (a local segment has none; /proc is not mounted),
/// PERMISSION (this process may not open it any more), NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_fd(const shmslot_segment *segment);

/// The absolute path of a named segment, "" for one without a name. Writes as much as fits, ending
/// in a NUL; *ret_len is the whole length without it, as snprintf returns it. buffer may be NULL if
/// size is 0.
/// Threads: any. Errors: INVALID. Since 0.2.
int shmslot_segment_path(const shmslot_segment *segment, char *buffer, size_t size,
                         size_t *ret_len);

/// The number of slots. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_segment_slot_count(const shmslot_segment *segment, uint64_t *ret_count);

/// Bytes from one slot's payload to the next. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_segment_slot_total_size(const shmslot_segment *segment, uint64_t *ret_bytes);

/// The payload bytes of a slot. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_segment_slot_capacity(const shmslot_segment *segment, uint64_t *ret_bytes);

/// A number that changes with the first commit, discard or mark after this call, in any process.
/// Ask for it, look at what you wait for, then give it to shmslot_segment_wait_for_change: no
/// change is missed in between. For one reader shmslot_wait is cheaper and says more.
/// Threads: any. Errors: INVALID, NOT_SUPPORTED (an observer). Since 0.2.
int shmslot_segment_generation(const shmslot_segment *segment, uint32_t *ret_generation);

/// Sets what ends shmslot_segment_wait_for_change of this handle, beside a change, from now on:
/// SHMSLOT_END_SIGNAL, SHMSLOT_END_RETIRED, their sum, or 0, which is how a segment begins. A
/// change comes first. Threads: any. Errors: INVALID (also any other bit). Since 0.2.
int shmslot_segment_end_waits(const shmslot_segment *segment, uint32_t when);

/// Sleeps until the generation is no longer last. No interrupt call ends it; use a timeout.
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. ret_generation: the new one, which the
/// next call can take as last; or NULL.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED and RETIRED
/// (as shmslot_segment_end_waits says), NOT_SUPPORTED (an observer). Since 0.2.
int shmslot_segment_wait_for_change(const shmslot_segment *segment, uint32_t last,
                                    int64_t timeout_ns, uint32_t *ret_generation);

/* ---- Counters: how a segment is used, seen from outside ---- */

/// shmslot_reader_counters.kind: a reader that is joined.
#define SHMSLOT_READER_JOINED 1

/// shmslot_reader_counters.kind: a reader that has left and still holds samples.
#define SHMSLOT_READER_LEFT 2

/// shmslot_reader_counters.kind: a number that callers of shmslot_ref_ calls use.
#define SHMSLOT_READER_NAMED 3

/// shmslot_reader_counters.kind: a reader that was expelled, and has not left.
#define SHMSLOT_READER_EXPELLED 4

/// What a segment is used for at one moment. Each slot is counted once: free, loaned, unread, held
/// and retained add up to the number of slots.
typedef struct shmslot_counters {
    /// The sequence that the next sample gets; the difference of two calls is the number of samples
    /// between them.
    uint64_t next_sequence;
    /// Memory of all regions.
    uint64_t region_bytes;
    /// Slots that are free.
    uint32_t free;
    /// Slots that a writer has: loaned, or just being committed or taken back from their readers.
    uint32_t loaned;
    /// Slots with a sample that some reader has not read, and that nobody holds.
    uint32_t unread;
    /// Slots with a sample that some reader holds.
    uint32_t held;
    /// Slots with a sample that only history keeps.
    uint32_t retained;
    /// Regions in use.
    uint32_t regions;
    /// Writers that are open.
    uint32_t writers;
    /// Readers that are joined.
    uint32_t readers;
    /// Attached processes, and those that died and have not been recovered.
    uint32_t participants;
    /// How many of these are dead.
    uint32_t dead;
    /// Dead participants that have been recovered, since the segment was created; it wraps.
    uint32_t recovered;
    /// 1 if the segment has been given up: nobody attaches to it by its name any more.
    uint32_t retired;
} shmslot_counters;

/// What one reader has at one moment.
typedef struct shmslot_reader_counters {
    /// Its bit in masks of readers.
    uint32_t index;
    /// SHMSLOT_READER_JOINED, SHMSLOT_READER_LEFT, SHMSLOT_READER_NAMED or SHMSLOT_READER_EXPELLED.
    uint32_t kind;
    /// The index of its participant; 0 for SHMSLOT_READER_NAMED, which belongs to nobody.
    uint32_t participant;
    /// Its process number, as its own pid namespace has it; 0 for SHMSLOT_READER_NAMED.
    uint32_t pid;
    /// 0 if its process is dead, else 1.
    uint32_t alive;
    /// Samples that it has not read.
    uint32_t unread;
    /// Samples that it holds.
    uint32_t held;
    /// Tells it from earlier and later readers with its index; shmslot_segment_expel wants it.
    uint32_t generation;
    /// The sequence that it reads next; 0 unless it is SHMSLOT_READER_JOINED, and while it joins.
    uint64_t next_sequence;
    /// Samples from there to the newest; 0 likewise.
    uint64_t lag;
    /// Samples that it has found to be lost. Those that were taken away since its last read or wait
    /// are in lag and not in unread.
    uint64_t lost;
    /// The sequence of the oldest sample that it holds; 0 if it holds none.
    uint64_t oldest_held;
    /// When that was committed, in monotonic nanoseconds; 0 without SHMSLOT_FLAG_TIMESTAMPS. It was
    /// read at this time or later: when, nobody notes.
    uint64_t oldest_held_ns;
} shmslot_reader_counters;

/// A writer that has loans out.
typedef struct shmslot_writer_counters {
    /// The number that its samples carry.
    uint32_t writer_id;
    /// The index of its participant.
    uint32_t participant;
    /// Its process number, as its own pid namespace has it.
    uint32_t pid;
    /// 0 if its process is dead, else 1.
    uint32_t alive;
    /// Slots that it has: loaned, or just being committed or taken back from their readers.
    uint32_t loans;
} shmslot_writer_counters;

/// A process that died while it was attached, and has been recovered.
typedef struct shmslot_death {
    /// The index of its participant. Another one may have it by now.
    uint32_t participant;
    /// Its process number, as its own pid namespace had it.
    uint32_t pid;
    /// Writers that it had open.
    uint32_t writers;
    /// 0.
    uint32_t reserved;
    /// The readers that it had, reader i as bit i.
    uint64_t readers;
    /// When its death was noticed, in monotonic nanoseconds.
    uint64_t noticed_ns;
} shmslot_death;

/// What the segment is used for now. Works on an attachment with SHMSLOT_FLAG_OBSERVER, too, and
/// disturbs nobody.
///
/// It walks all slots, reading 80 bytes of each, and asks for each participant whether it is alive,
/// which makes a few system calls. In a segment at rest the numbers are exact; while others run,
/// each is as exact as a count of moving things can be, and the slots still add up. docs/guide.md
/// says what it costs. counters_size: sizeof(shmslot_counters); fields that an older library does
/// not know are 0. Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_counters(const shmslot_segment *segment, shmslot_counters *ret_counters,
                             size_t counters_size);

/// What each reader has now: joined and expelled ones, those that left and still hold samples, and
/// the numbers that shmslot_ref_ calls use. Works on observers, too, and costs as much as
/// shmslot_segment_counters. array, element_size, capacity, ret_count: as in
/// shmslot_segment_participants; there are 63 readers at most. Threads: any. Errors: INVALID,
/// NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_readers(const shmslot_segment *segment, shmslot_reader_counters *array,
                            size_t element_size, size_t capacity, size_t *ret_count);

/// The writers that have loans out now. One without loans leaves no trace in a segment;
/// shmslot_participant.writers counts all that a process has open. Works on observers, too, and
/// costs as much as shmslot_segment_counters. array, element_size, capacity, ret_count: as in
/// shmslot_segment_participants. Threads: any. Errors: INVALID, NO_MEMORY, SYS. Since 0.2.
int shmslot_segment_writers(const shmslot_segment *segment, shmslot_writer_counters *array,
                            size_t element_size, size_t capacity, size_t *ret_count);

/// The participants that died while attached: for each index its last death, the latest of all
/// first. After SHMSLOT_E_PEER_DEAD the dead participant is listed. A death is recorded when
/// somebody recovers it; until then shmslot_segment_participants lists it as dead. Also for an
/// observer. array, element_size, capacity, ret_count: as in shmslot_segment_participants. Threads:
/// any. Errors: INVALID. Since 0.2.
int shmslot_segment_deaths(const shmslot_segment *segment, shmslot_death *array,
                           size_t element_size, size_t capacity, size_t *ret_count);

/* ---- Writers: reserve, fill and commit slots ---- */

/// Reserves slots and commits them. Threads: any at once; on a SHMSLOT_FLAG_SINGLE_WRITER segment
/// one at a time.
typedef struct shmslot_writer shmslot_writer;

/// A slot reserved and not yet committed or discarded. Plain data: it may be copied, moved and
/// forgotten.
typedef struct shmslot_loan {
    /// The payload, aligned as the segment says; writable for len bytes until the loan ends.
    void *data;
    /// The bytes that were reserved.
    uint64_t len;
    /// The slot's user header, as many bytes as the segment says; NULL if it has none.
    void *user_header;
    /// The segment that it belongs to.
    uint64_t segment_id;
    /// For the library: which slot, and which use of it.
    uint64_t token;
} shmslot_loan;

/// Opens a writer on the segment. From now on this process may write to all payloads.
/// ret_writer: close it with shmslot_writer_close, before or after the segment. reterr: NULL or
/// filled on failure.
/// Threads: any. Errors: INVALID, WRITER_EXISTS, NOT_SUPPORTED (an observer), NO_MEMORY
/// (also 4096 writers of one attachment), SYS, CORRUPT. Since 0.2.
int shmslot_writer_open(shmslot_segment *segment, shmslot_writer **ret_writer,
                        shmslot_error *reterr);

/// Closes the writer; NULL is fine. Never fails and never waits. Loans that are still out are
/// discarded: do not write to their payloads any more. Threads: any, once. Since 0.2.
void shmslot_writer_close(shmslot_writer *writer);

/// Ends one wait of this writer with SHMSLOT_E_INTERRUPTED: the running one, or else the next.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
int shmslot_writer_interrupt(shmslot_writer *writer);

/// The readers that still hold the slots which this writer would reuse next: bit i is reader i, as
/// shmslot_reader_index tells. They are those of the 64 oldest samples that readers keep. To be
/// asked after SHMSLOT_E_NO_FREE_SLOT. 0: no reader keeps a slot, so all are loaned or retained;
/// shmslot_segment_counters tells. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_writer_blockers(shmslot_writer *writer, uint64_t *ret_readers);

/// Says in numbers why a call of this writer has just failed with this code. Reserve, commit and
/// the other hot calls return a code alone. ret_error gets the code and a text:
/// NO_FREE_SLOT: how many slots this writer, other writers and readers have, and which readers.
/// numbers: slots in use; loans of this writer; these readers, reader i as bit i. It costs a walk
/// over all slots.
/// TOO_LARGE: len, which is what the call wanted to write, and the largest payload; both in
/// numbers. LOAN_LIMIT: the loans and max_loans; both in numbers.
/// STALE: what became of *loan, as far as the segment still shows.
/// Any other code of this header: the text of shmslot_strerror.
/// loan: looked at for STALE only; may be NULL. Threads: any. Errors: INVALID (also no code of this
/// header). Since 0.2.
int shmslot_writer_explain(const shmslot_writer *writer, int code, size_t len,
                           const shmslot_loan *loan, shmslot_error *ret_error);

/// Reserves room for up to len bytes, for this writer alone. Several loans at once are fine, ended
/// in any order. Payload and user header contain whatever bytes were there before. More than
/// slot_capacity, up to max_payload, is in a region, and needs a free slot and a free region;
/// nothing else differs.
///
/// When nothing is free: FAIL gives NO_FREE_SLOT whatever the timeout. BLOCK waits. DROP_OLDEST
/// takes the oldest sample that nobody holds away from those that have not read it, and waits only
/// if there is none. timeout_ns: nanoseconds, 0 not to wait (then NO_FREE_SLOT), -1 for no limit.
/// System calls only to wait, to look for the dead when nothing is free, for new memory of a region,
/// and one when slots begin to be freed out of order.
///
/// ret_loan: ends with commit, discard or the writer. Threads: see shmslot_writer. Errors: INVALID,
/// BAD_TIMEOUT, TOO_LARGE, NO_FREE_SLOT (also when the time is over), NO_MEMORY and SYS (for a
/// region), INTERRUPTED, RETIRED, LOAN_LIMIT, CORRUPT. Since 0.2.
int shmslot_slot_reserve(shmslot_writer *writer, size_t len, int64_t timeout_ns,
                         shmslot_loan *ret_loan);

/// Publishes the first len bytes of a loan to all readers; len may be less than was reserved, and
/// 0. The order of commits is the order of samples, over all writers of the segment.
///
/// ret_sequence: the sample's place in that order, from 1; NULL if not wanted. The loan is over on
/// success; on failure it is as it was. Threads: see shmslot_writer. Errors: INVALID, BAD_LENGTH,
/// STALE, CORRUPT. Since 0.2.
int shmslot_slot_commit(shmslot_writer *writer, const shmslot_loan *loan, size_t len,
                        uint64_t *ret_sequence);

/// Reserves up to capacity loans, each for up to len bytes, and returns how many. It is
/// shmslot_slot_reserve as often as that succeeds: the first waits as timeout_ns says, the others do
/// not wait. There are never more than slots. Loans of one call are mostly in the order in which
/// their commits are fastest.
///
/// ret_loans: room for capacity loans, the first ones written; NULL if capacity is 0, and then the
/// result is 0. Threads and errors as in shmslot_slot_reserve, if there is not even one. Since 0.2.
int shmslot_slot_reserve_many(shmslot_writer *writer, size_t len, int64_t timeout_ns,
                              shmslot_loan *ret_loans, size_t capacity);

/// Publishes count loans in turn, and returns how many. It is shmslot_slot_commit for each, but
/// looks only once per 16 samples whether somebody sleeps, joins or leaves, in a segment with a
/// power of two of slots, max_readers up to 15, and none of history, timestamps,
/// SHMSLOT_POLICY_DROP_OLDEST, max_loans and max_held. Samples of other writers may come in
/// between. If the result is below count, the next loan cannot be committed and is as it was, and
/// so are those after it; a call that begins with it returns the error.
///
/// loans: count of them, of this writer; may be NULL if count is 0. lens: how many bytes of each to
/// publish; NULL for the len in each loan, which the caller may have lowered. ret_sequences: room
/// for count sequences, the first ones written; NULL if not wanted. Threads and errors as in
/// shmslot_slot_commit, if not even one is published. Since 0.2.
int shmslot_slot_commit_many(shmslot_writer *writer, const shmslot_loan *loans, const size_t *lens,
                             size_t count, uint64_t *ret_sequences);

/// Releases a loan without publishing it. It leaves no hole in the sequence.
/// Threads: see shmslot_writer. Errors: INVALID, STALE. Since 0.2.
int shmslot_slot_discard(shmslot_writer *writer, const shmslot_loan *loan);

/// Reserves, copies len bytes and commits. bytes may be NULL if len is 0.
///
/// Arguments, threads and errors as in shmslot_slot_reserve and shmslot_slot_commit. Since 0.2.
int shmslot_slot_write(shmslot_writer *writer, const void *bytes, size_t len, int64_t timeout_ns,
                       uint64_t *ret_sequence);

/// shmslot_slot_commit for callers that kept only the payload pointer of the loan.
/// Threads and errors as there; STALE if data is not the payload of a loan of this writer. Since
/// 0.2.
int shmslot_slot_commit_ptr(shmslot_writer *writer, const void *data, size_t len,
                            uint64_t *ret_sequence);

/// shmslot_slot_discard for callers that kept only the payload pointer of the loan.
/// Threads and errors as there; STALE if data is not the payload of a loan of this writer. Since
/// 0.2.
int shmslot_slot_discard_ptr(shmslot_writer *writer, const void *data);

/// The loan of this writer whose payload begins at data, found in constant time.
/// Threads: see shmslot_writer. Errors: INVALID, STALE if there is none. Since 0.2.
int shmslot_loan_from_ptr(shmslot_writer *writer, const void *data, shmslot_loan *ret_loan);

/// Sets what ends reserves and waits of this writer, beside what they wait for, from now on:
/// SHMSLOT_END_SIGNAL, SHMSLOT_END_RETIRED, their sum, or 0, which is how a writer begins. A slot
/// that is free comes first. Threads: any. Errors: INVALID (also any other bit). Since 0.2.
int shmslot_writer_end_waits(shmslot_writer *writer, uint32_t when);

/// Waits until a slot can be had; regions are not counted in. With several writers another may be
/// faster then.
///
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: see shmslot_writer. Errors:
/// INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, RETIRED (as
/// shmslot_writer_end_waits says). Since 0.2.
int shmslot_wait_space(shmslot_writer *writer, int64_t timeout_ns);

/// Waits until count readers or more are joined: each of them reads whatever is committed after
/// this call. A dead reader counts until it is recovered. timeout_ns and
/// threads: as in shmslot_wait_space. reterr: NULL or filled on failure. Errors: INVALID (also more
/// than max_readers), BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, RETIRED (as
/// shmslot_writer_end_waits says). Since 0.2.
int shmslot_wait_readers(shmslot_writer *writer, uint32_t count, int64_t timeout_ns,
                         shmslot_error *reterr);

/* ---- Readers: read samples in place and mark them ---- */

/// Reads the samples of a segment in the order of their sequence. Threads: one at a time; marking
/// and interrupting: any.
typedef struct shmslot_reader shmslot_reader;

/// A held sample: its bytes cannot change or move until it is marked. Plain data: it may be copied
/// and moved.
typedef struct shmslot_sample {
    /// The payload, aligned as the segment says; readable for len bytes until the sample is marked.
    const void *data;
    /// Length of the payload in bytes.
    uint64_t len;
    /// Its place in the order of all samples of the segment; the first is 1.
    uint64_t sequence;
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    uint64_t timestamp_ns;
    /// The slot's user header, as many bytes as the segment says; NULL if it has none.
    const void *user_header;
    /// The segment that it belongs to.
    uint64_t segment_id;
    /// The slot that it is in.
    uint32_t slot;
    /// Equal in all samples of one writer, and different from that of every other open writer.
    uint32_t writer_id;
    /// How it is held; for the library.
    uint32_t flags;
    /// 0.
    uint32_t reserved;
} shmslot_sample;

/// Joins the segment as a reader. It sees every sample that is committed from now on, exactly once
/// and in order, and before those up to history samples that the segment has retained.
///
/// history: at most the segment's. ret_reader: end it with shmslot_reader_leave. reterr: NULL or
/// filled on failure.
/// Threads: any. Errors: INVALID, BAD_OPTIONS (history), NO_READER_SLOT, EXPELLED (before it had
/// joined), NOT_SUPPORTED (an observer), NO_MEMORY, SYS, CORRUPT. Since 0.2.
int shmslot_reader_join(shmslot_segment *segment, uint32_t history, shmslot_reader **ret_reader,
                        shmslot_error *reterr);

/// Leaves; NULL is fine. Never fails and never waits. What was not read is released. Held samples
/// stay valid and are marked with the same reader pointer as before; it dies with the last of them,
/// or now if there is none.
///
/// Threads: any, once, while no call but marks uses the reader; marks may run at the same time.
/// Since 0.2.
void shmslot_reader_leave(shmslot_reader *reader);

/// Ends one wait of this reader with SHMSLOT_E_INTERRUPTED: the running one, or else the next.
/// Threads: any, and signal handlers. Errors: INVALID. Since 0.2.
int shmslot_reader_interrupt(shmslot_reader *reader);

/// Sets what ends waits of this reader, beside samples, from now on: a sum of
/// SHMSLOT_END_NO_WRITERS, SHMSLOT_END_PEER_DEAD, SHMSLOT_END_SIGNAL and SHMSLOT_END_RETIRED, or 0,
/// which is how a reader begins. Samples that are there are always read first.
///
/// Threads: any. Errors: INVALID. Since 0.2.
int shmslot_reader_end_waits(shmslot_reader *reader, uint32_t when);

/// How many samples SHMSLOT_POLICY_DROP_OLDEST has taken away from this reader, as far as it has
/// read: exactly those of which the commit began after it had joined and that it has not read. 0
/// under the other policies.
/// Threads: any. Errors: INVALID. Since 0.2.
int shmslot_reader_lost(const shmslot_reader *reader, uint64_t *ret_lost);

/// The reader's bit in masks of readers, 0 to 62. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_reader_index(const shmslot_reader *reader);

/// Says in numbers why a call of this reader has just failed with this code. ret_error gets the code
/// and a text. HELD_LIMIT: the samples held and max_held; both in numbers. STALE: what is known of
/// *sample; numbers: its sequence, and the one that the reader reads next. Any other code: the text
/// of shmslot_strerror. sample: looked at for STALE only; may be NULL.
/// Threads: any. Errors: INVALID (also no code of this header). Since 0.2.
int shmslot_reader_explain(const shmslot_reader *reader, int code, const shmslot_sample *sample,
                           shmslot_error *ret_error);

/// Reads the next sample in place. Several may be held, and marked in any order. Makes no system
/// call, but see shmslot_reader_fd.
///
/// ret_sample: until shmslot_slot_mark. Threads: see shmslot_reader. Errors: INVALID, AGAIN
/// (nothing there yet), HELD (the next one is held by a peek), HELD_LIMIT (this reader holds
/// max_held samples, even if there is no other), EXPELLED, CORRUPT, DESCRIPTOR_LOST. Since 0.2.
int shmslot_slot_read(shmslot_reader *reader, shmslot_sample *ret_sample);

/// Reads up to capacity samples in place, in order, and returns how many. It is shmslot_slot_read as
/// often as that succeeds, and at most once for each slot. A result below capacity says that there
/// were no more, or that an error ended it, which the next call returns. Only a call that returns
/// AGAIN has armed shmslot_reader_fd.
///
/// ret_samples: room for capacity samples, the first ones written; each until it is marked, together
/// or alone. NULL if capacity is 0, and then the result is 0. Threads and errors as in
/// shmslot_slot_read, if there is not even one. Since 0.2.
int shmslot_slot_read_many(shmslot_reader *reader, shmslot_sample *ret_samples, size_t capacity);

/// Takes the newest sample of all, if this reader has not read and marked it or the segment retains
/// it. With history, and no SHMSLOT_POLICY_DROP_OLDEST, there is one as soon as there was a commit.
/// It does not move the reader: after the mark the next peek finds the same sample until there is a
/// newer one, and a read comes to it in its turn. Under SHMSLOT_POLICY_DROP_OLDEST that read says
/// HELD until the mark.
///
/// ret_sample: until shmslot_slot_mark. Threads: see shmslot_reader. Errors: INVALID, AGAIN (none,
/// or it was read and is not retained), HELD (already), HELD_LIMIT, EXPELLED, CORRUPT. Since 0.2.
int shmslot_slot_peek_latest(shmslot_reader *reader, shmslot_sample *ret_sample);

/// Releases a sample: its slot can be reused as soon as all readers have released it. Each sample
/// is marked once, in any order, also after shmslot_reader_leave. A second mark is STALE; but after
/// leaving, the mark of the last sample ends the handle.
///
/// Threads: any. Errors: INVALID, STALE. Since 0.2.
int shmslot_slot_mark(shmslot_reader *reader, const shmslot_sample *sample);

/// Releases count samples in turn, and returns how many. It is shmslot_slot_mark for each; where
/// shmslot_slot_commit_many shares looks, this looks only once per 16 samples whether somebody waits
/// for their slots. If the result is below count,
/// the next sample is not held by this reader, and nothing was done with those after it; a call that
/// begins with it returns STALE.
///
/// samples: count of them, however they were read; may be NULL if count is 0. After leaving, the
/// handle dies with the last sample, as in shmslot_slot_mark. Threads: any. Errors: INVALID, STALE,
/// if not even one is released. Since 0.2.
int shmslot_slot_mark_many(shmslot_reader *reader, const shmslot_sample *samples, size_t count);

/// shmslot_slot_mark for callers that kept only the payload pointer of the sample.
/// Threads: any. Errors: INVALID, STALE if data is not the payload of a sample that this reader
/// holds. Since 0.2.
int shmslot_slot_mark_ptr(shmslot_reader *reader, const void *data);

/// The sample that this reader holds whose payload begins at data, found in constant time. It is
/// not held a second time.
/// Threads: any. Errors: INVALID, STALE if there is none. Since 0.2.
int shmslot_sample_from_ptr(shmslot_reader *reader, const void *data, shmslot_sample *ret_sample);

/// Waits until shmslot_slot_read has a sample. Polls for options.spin_ns, then sleeps without using
/// the processor. Under SHMSLOT_POLICY_DROP_OLDEST the sample may be taken away again before the
/// read, which then says AGAIN.
///
/// timeout_ns: nanoseconds, 0 only to ask, -1 for no limit. Threads: see shmslot_reader. Errors:
/// INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, INTERRUPTED, NO_WRITERS, PEER_DEAD and RETIRED
/// (as shmslot_reader_end_waits says), EXPELLED, CORRUPT. Since 0.2.
int shmslot_wait(shmslot_reader *reader, int64_t timeout_ns);

/// Waits until one of count readers has a sample; they may belong to different segments. *ret_index
/// is the lowest that has.
///
/// count: 1 to 1024. Up to 128 are looked at every millisecond on kernels before 5.16, and where
/// futex_waitv is refused; elsewhere it sleeps. More cost as making a shmslot_set does, each time.
/// Errors: as shmslot_wait, TOO_MANY; from 129 SYS. Threads: see shmslot_reader. Since 0.2.
int shmslot_wait_any(shmslot_reader *const *readers, size_t count, int64_t timeout_ns,
                     size_t *ret_index);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMSLOT_H */
