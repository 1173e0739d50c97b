/**
 * @file shmslot_reference.h
 * Reference operations: the slots of a segment for middleware that tracks its readers itself.
 *
 * Such a caller says which readers a sample is for, and marks it for each of them. It may share a
 * segment with writers and readers of shmslot.h.
 *
 * The rules at the top of shmslot.h hold here.
 */

#ifndef SHMSLOT_REFERENCE_H
#define SHMSLOT_REFERENCE_H

/* Generated from src/ffi; tests/header.rs compares and rewrites it. */

#include "shmslot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Reference operations: for middleware that tracks its readers itself ---- */

/// One use of a slot: reserved, or published. Plain data; stale as soon as the slot is reused.
///
/// The shmslot_ref_ calls are for middleware that tracks its readers itself: readers are the
/// caller's own numbers from 0 to max_readers - 1, and each reserve says which of them are active.
/// They work on segments whose policy is FAIL or BLOCK, also on local ones. The handle becomes a
/// writer of the segment with the first reserve, which may fail as shmslot_writer_open does; who
/// only reads is none, and may be attached with SHMSLOT_FLAG_OBSERVER for all but
/// shmslot_ref_next_unread and the marks. Joined readers see these samples like all others. They
/// get their numbers from the top, and never one that these calls have used: that is kept for them
/// until shmslot_ref_mark_reader_disconnected gives it up. A number that a joined reader has is a
/// BAD_INDEX. All may say CORRUPT.
typedef struct shmslot_ref {
    /// The segment that it belongs to.
    uint64_t segment_id;
    /// For the library: which slot, and which use of it.
    uint64_t token;
} shmslot_ref;

/// What is known of a published slot beside its bytes.
typedef struct shmslot_ref_header {
    /// Its place in the order of all samples; the first is 1.
    uint64_t sequence;
    /// Length of the payload in bytes.
    uint64_t len;
    /// The readers that have not marked it: bit i is reader i.
    uint64_t unread;
    /// The active readers of its reserve; 0 if it was no reserve of these calls.
    uint64_t audience;
    /// Monotonic time of its commit in nanoseconds, 0 if the segment keeps none.
    uint64_t timestamp_ns;
} shmslot_ref_header;

/// Reserves a slot that no reader of active_readers (bit i: reader i) has unread. Never waits.
///
/// Threads: any; on a SHMSLOT_FLAG_SINGLE_WRITER segment one at a time for all that reserves and
/// commits. Errors: INVALID, BAD_INDEX (a bit from max_readers on, or of a joined reader),
/// NO_FREE_SLOT, LOAN_LIMIT, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_reserve(shmslot_segment *segment, uint64_t active_readers, shmslot_ref *ret_ref);

/// Reserves room for up to len bytes: as shmslot_ref_reserve if a slot takes them. More, up to
/// max_payload, is in a region, and needs one that no reader of active_readers has unread beside
/// such a slot. All other calls are the same. reterr: NULL or filled on failure. Threads: as there.
/// Otherwise as shmslot_ref_reserve; also TOO_LARGE, NO_MEMORY and SYS (for a region). Since 0.2.
int shmslot_ref_reserve_large(shmslot_segment *segment, uint64_t active_readers, size_t len,
                              shmslot_ref *ret_ref, shmslot_error *reterr);

/// The payload of a reserved slot, and how many bytes it takes. Threads: any. Errors: INVALID,
/// STALE, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_data_ptr(shmslot_segment *segment, const shmslot_ref *reference, void **ret_data,
                         size_t *ret_capacity);

/// The user header of a reserved slot, to be filled before the commit, and its size; NULL and 0 if
/// the segment has none. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_data_user_header(shmslot_segment *segment, const shmslot_ref *reference,
                                 void **ret_header, size_t *ret_size);

/// Copies len bytes into a reserved slot and publishes it to the active readers of its reserve.
/// ret_sequence: or NULL.
/// Threads: as shmslot_ref_reserve. Errors: INVALID, STALE, TOO_LARGE, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_commit_copy(shmslot_segment *segment, const shmslot_ref *reference,
                            const void *bytes, size_t len, uint64_t *ret_sequence);

/// Publishes the first len bytes of a reserved slot, which were written in place. ret_sequence: or
/// NULL.
/// Threads: as shmslot_ref_reserve. Errors: INVALID, STALE, BAD_LENGTH, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_commit_in_place(shmslot_segment *segment, const shmslot_ref *reference, size_t len,
                                uint64_t *ret_sequence);

/// Releases a reserved slot without publishing it. Threads: as shmslot_ref_reserve. Errors:
/// INVALID, STALE, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_discard(shmslot_segment *segment, const shmslot_ref *reference);

/// The oldest sample that a reader has not marked. It stays the answer until it is marked. Threads:
/// one at a time for each reader. Errors: INVALID, AGAIN (there is none), NOT_SUPPORTED, BAD_INDEX
/// (from max_readers on, or of a joined reader).
/// Since 0.2.
int shmslot_ref_next_unread(shmslot_segment *segment, uint32_t reader_index, shmslot_ref *ret_ref);

/// The sample that is published in a slot, 0 to slot_count - 1, whichever readers it is for, read
/// or not. It stays until the slot is reserved again: what was committed for nobody (a mask of 0)
/// is found here, and as long. A payload in a region may be gone before, if nobody has it unread:
/// to read it is STALE then.
/// Threads: any. Errors: INVALID, AGAIN (there is none), NOT_SUPPORTED. Since 0.2.
int shmslot_ref_published(shmslot_segment *segment, uint32_t slot, shmslot_ref *ret_ref);

/// The payload of a published slot and its length. Its bytes stay as long as a reader that is
/// active at every reserve has not marked it. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED.
/// Since 0.2.
int shmslot_ref_read_ptr(shmslot_segment *segment, const shmslot_ref *reference,
                         const void **ret_data, size_t *ret_len);

/// The user header of a published slot and its size; NULL and 0 if the segment has none. It stays
/// as the payload does. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_read_user_header(shmslot_segment *segment, const shmslot_ref *reference,
                                 const void **ret_header, size_t *ret_size);

/// What is known of a published slot. Threads: any. Errors: INVALID, STALE, NOT_SUPPORTED. Since
/// 0.2.
int shmslot_ref_read_header(shmslot_segment *segment, const shmslot_ref *reference,
                            shmslot_ref_header *ret_header);

/// Copies a published slot into buffer and tells what is known of it. ret_header, ret_len: NULL if
/// not wanted. The buffer may be overwritten by a call that fails. Threads: any. Errors: INVALID,
/// STALE, TOO_LARGE (size is less than its length), NOT_SUPPORTED. Since 0.2.
int shmslot_ref_read_copy(shmslot_segment *segment, const shmslot_ref *reference,
                          shmslot_ref_header *ret_header, void *buffer, size_t size,
                          size_t *ret_len);

/// Marks a published slot as read by one reader. Threads: any. Errors: INVALID, STALE (also if this
/// reader had marked it), BAD_INDEX, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_mark_read(shmslot_segment *segment, const shmslot_ref *reference,
                          uint32_t reader_index);

/// Marks everything as read by one reader, which is gone. Looks at every slot. From here on a
/// reader that joins may get its number, until it is used again. Threads: any. Errors: INVALID,
/// BAD_INDEX, NOT_SUPPORTED. Since 0.2.
int shmslot_ref_mark_reader_disconnected(shmslot_segment *segment, uint32_t reader_index);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMSLOT_REFERENCE_H */
