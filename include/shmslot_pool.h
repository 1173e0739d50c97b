/**
 * @file shmslot_pool.h
 * Channels and pools: memory outside segments that one process writes and others read.
 *
 * A registry lends memory of its regions for payloads of any size. A channel, which is a connected
 * unix socket, carries the descriptors of the regions to the receivers, whose attachments map them.
 * Channels carry segments, too. docs/regions.md says how the parts work together.
 *
 * The rules at the top of shmslot.h hold here.
 */

#ifndef SHMSLOT_POOL_H
#define SHMSLOT_POOL_H

/* Generated from src/ffi; tests/header.rs compares and rewrites it. */

#include "shmslot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Channels: unix sockets that carry the descriptors of regions and segments ---- */

/// Channel and attachments flag: also map regions whose files are not sealed. If the sender cuts
/// such a file, touching it raises SIGBUS.
#define SHMSLOT_FLAG_UNSEALED 64

/// A connection that carries descriptors of regions and segments, or waits for connections; a call
/// that is for the other of the two says INVALID. Threads: any.
typedef struct shmslot_channel shmslot_channel;

/// Makes two ends of a connection: pass shmslot_channel_fd of one to a child, which makes a channel
/// of it with shmslot_channel_from_fd, and close it here.
/// flags: 0, or SHMSLOT_FLAG_ANY_OWNER (also with another user's process), SHMSLOT_FLAG_UNSEALED.
/// ret_...: close both. reterr: NULL or filled on failure. Threads: any. Errors: INVALID,
/// BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
int shmslot_channel_pair(uint32_t flags, shmslot_channel **ret_one, shmslot_channel **ret_other,
                         shmslot_error *reterr);

/// Waits for connections at a name: an absolute path of at most 107 bytes, or '@' and an abstract
/// name. A socket file that a dead process has left there is replaced; closing the channel removes
/// it.
/// Flags as in shmslot_channel_pair; they hold for the connections. ret_listener: close it with
/// shmslot_channel_close.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_OPTIONS, BAD_NAME, EXISTS,
/// NOT_FOUND (no such directory), PERMISSION, NAME_BUSY, NO_MEMORY, SYS. Since 0.2.
int shmslot_channel_listen(const char *name, uint32_t flags, shmslot_channel **ret_listener,
                           shmslot_error *reterr);

/// The next connection. One of another user is silently closed, unless the listener has
/// SHMSLOT_FLAG_ANY_OWNER. Signals do not end the wait.
/// timeout_ns: nanoseconds, 0 not to wait, -1 for no limit. reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, NO_MEMORY, SYS. Since
/// 0.2.
int shmslot_channel_accept(shmslot_channel *listener, int64_t timeout_ns,
                           shmslot_channel **ret_channel, shmslot_error *reterr);

/// Connects to a listener. timeout_ns: how long to wait while its backlog is full; signals do not
/// end that.
/// Otherwise as shmslot_channel_listen and shmslot_channel_accept; also NOT_FOUND (nobody listens),
/// PERMISSION (another user does). Threads: any. Since 0.2.
int shmslot_channel_connect(const char *name, uint32_t flags, int64_t timeout_ns,
                            shmslot_channel **ret_channel, shmslot_error *reterr);

/// Makes a channel of a connected unix socket, inherited or received: seqpacket, stream, or
/// datagram, which never tells that the other end is gone. The descriptor stays the caller's, who
/// closes it after the call.
/// Flags and ret_channel as in shmslot_channel_pair. reterr: NULL or filled on failure. Threads:
/// any. Errors: INVALID (no such socket), BAD_OPTIONS, PERMISSION (another user at the other end),
/// NO_MEMORY, SYS. Since 0.2.
int shmslot_channel_from_fd(int fd, uint32_t flags, shmslot_channel **ret_channel,
                            shmslot_error *reterr);

/// The channel's descriptor, to be polled for input and not to be read: a message or a connection
/// is there, or the end. It stays the channel's. Threads: any. Errors: INVALID. Since 0.2.
int shmslot_channel_fd(const shmslot_channel *channel);

/// Sends the descriptor of a segment made by shmslot_segment_create_anonymous; the other end
/// attaches to it.
/// timeout_ns: how long to wait while the other end does not read. Signals do not end the wait.
/// reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT, CHANNEL_BROKEN,
/// NOT_SEALED (a named one), NOT_SUPPORTED (a local one), NO_MEMORY (also too many descriptors
/// under way), SYS, and those of shmslot_segment_fd. Since 0.2.
int shmslot_channel_send_segment(shmslot_channel *channel, const shmslot_segment *segment,
                                 int64_t timeout_ns, shmslot_error *reterr);

/// Attaches to the next segment that the other end has sent. Regions that come before it are kept
/// for the attachments. Signals do not end the wait.
/// options and errors as in shmslot_segment_attach_fd, after which the message is gone, but not for
/// want of memory or descriptors; also BAD_TIMEOUT, AGAIN (timeout 0, or 64 regions wait), TIMEOUT,
/// CHANNEL_BROKEN. Threads: any. Since 0.2.
int shmslot_channel_recv_segment(shmslot_channel *channel, const shmslot_attach_options *options,
                                 int64_t timeout_ns, shmslot_segment **ret_segment,
                                 shmslot_error *reterr);

/// Closes the handle; NULL is fine. The connection ends with the registries and attachments that
/// use it. Threads: any, once. Since 0.2.
void shmslot_channel_close(shmslot_channel *channel);

/* ---- Registries: memory in regions, on lease for payloads of any size ---- */
/// The initial value of a shmslot_registry_options: all defaults.
#define SHMSLOT_REGISTRY_OPTIONS_INIT \
    {sizeof(shmslot_registry_options), 0, 0, 0, 0, 0}

/// Registry flag: receivers are not of this library. They may map regions to write to them, and
/// each generation is announced. A process that gets a region can then change any byte of it at any
/// time.
#define SHMSLOT_FLAG_FOREIGN_RECEIVERS 1

/// max_idle: no region is kept without leases.
#define SHMSLOT_IDLE_NONE 1

/// Gives out memory in mapped regions, for payloads beside the slots; docs/regions.md has the
/// rules. Threads: any.
typedef struct shmslot_registry shmslot_registry;

/// How a registry makes regions. Begin with SHMSLOT_REGISTRY_OPTIONS_INIT; zero is the default of
/// each field.
typedef struct shmslot_registry_options {
    /// sizeof(shmslot_registry_options); SHMSLOT_REGISTRY_OPTIONS_INIT fills it.
    uint32_t struct_size;
    /// Alignment of each lease in bytes, a power of two from 64 to 4096; default 64.
    uint32_t align;
    /// Bytes of a region; default 1 MiB. A larger payload gets a region of its own size.
    uint64_t region_size;
    /// Most bytes of regions without leases that are kept for reuse, or SHMSLOT_IDLE_NONE; default
    /// 64 MiB.
    uint64_t max_idle;
    /// Most bytes of all regions together, without a page for each; default no limit.
    uint64_t max_bytes;
    /// 0, or SHMSLOT_FLAG_FOREIGN_RECEIVERS.
    uint64_t flags;
} shmslot_registry_options;

/// What a registry has at this moment.
typedef struct shmslot_pool_info {
    /// Bytes of all regions.
    uint64_t bytes;
    /// Bytes of those that are kept without leases.
    uint64_t idle_bytes;
    /// Leases that are out.
    uint64_t leases;
    /// Regions.
    uint32_t regions;
    /// Channels that regions are announced on.
    uint32_t channels;
} shmslot_pool_info;

/// Memory on lease. map_id, generation, offset and len are what to send to the receiver. Plain
/// data: it may be copied.
typedef struct shmslot_lease {
    /// The memory, aligned as the registry says; writable for len bytes until the last release.
    void *data;
    /// The bytes that were asked for.
    uint64_t len;
    /// Where in the region.
    uint64_t offset;
    /// The region.
    uint32_t map_id;
    /// Which use of the region.
    uint32_t generation;
    /// The whole region that data lies in, of which only data is the lease's; mapped as that is.
    void *region;
    /// Bytes of it.
    uint64_t region_len;
    /// For the library.
    uint64_t token;
} shmslot_lease;

/// Makes a registry; regions come with the first lease.
/// options: NULL for all defaults. ret_registry: close it with shmslot_registry_close. reterr: NULL
/// or filled on failure.
/// Threads: any. Errors: INVALID, BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
int shmslot_registry_create(const shmslot_registry_options *options,
                            shmslot_registry **ret_registry, shmslot_error *reterr);

/// Closes the registry and its part in its channels; NULL is fine. Leases that are out stay, and
/// are released with the same registry pointer; it dies with the last of them, or now if there is
/// none.
/// Threads: any, once, while no call but releases uses the registry. Since 0.2.
void shmslot_registry_close(shmslot_registry *registry);

/// Announces regions on this channel from now on, beginning with those that have leases. A channel
/// may be in one registry on each side, and closed afterwards: the registry keeps it. Adding it
/// twice changes nothing.
/// timeout_ns: how long to wait while the other end does not read. Signals do not end the wait.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_TIMEOUT, AGAIN (timeout 0)
/// or TIMEOUT, CHANNEL_BROKEN, NO_MEMORY (also too many descriptors under way), SYS. Since 0.2.
int shmslot_registry_add(shmslot_registry *registry, shmslot_channel *channel, int64_t timeout_ns,
                         shmslot_error *reterr);

/// Announces nothing more on this channel; its other end keeps what it mapped. Threads: any.
/// Errors: INVALID. Since 0.2.
int shmslot_registry_remove(shmslot_registry *registry, shmslot_channel *channel);

/// What the registry has at this moment. size: sizeof(shmslot_pool_info). Threads: any. Errors:
/// INVALID. Since 0.2.
int shmslot_registry_info(shmslot_registry *registry, shmslot_pool_info *ret_state, size_t size);

/// Unmaps and closes all regions without leases now, whatever max_idle; returns how many. Threads:
/// any. Errors: INVALID.
/// Since 0.2.
int shmslot_registry_reclaim(shmslot_registry *registry);

/// Leases memory for len bytes, in a region that all channels of the registry have been told of:
/// send the lease's numbers to the receivers in any way. Returns how many channels were
/// removed since the last success because their other ends are gone, usually 0.
/// timeout_ns: how long to wait while the other end does not read. ret_lease: ends with
/// shmslot_region_release.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, BAD_TIMEOUT, NO_MEMORY (also
/// max_bytes, too many descriptors under way), AGAIN (timeout 0) or TIMEOUT (another end does not
/// read), SYS. Since 0.2.
int shmslot_region_alloc(shmslot_registry *registry, size_t len, int64_t timeout_ns,
                         shmslot_lease *ret_lease, shmslot_error *reterr);

/// One more release is due before the lease ends, as for each receiver. Threads: any. Errors:
/// INVALID, STALE. Since 0.2.
int shmslot_region_retain(shmslot_registry *registry, const shmslot_lease *lease);

/// Ends one use of the lease. After the last release nobody may look at its memory any more, here
/// or in a receiver. Also after shmslot_registry_close. Threads: any. Errors: INVALID, STALE. Since
/// 0.2.
int shmslot_region_release(shmslot_registry *registry, const shmslot_lease *lease);

/* ---- Attachments: the regions of a sender, mapped to be read ---- */

/// Regions of one sender that are mapped here, to be read. Threads: any.
typedef struct shmslot_attachments shmslot_attachments;

/// Bytes of a region. They change once the sender's lease ends; tell the sender when you are done.
/// Plain data.
typedef struct shmslot_mapped {
    /// Where they are; readable for len bytes until the release.
    const void *data;
    /// How many.
    uint64_t len;
    /// The whole region that they lie in; mapped as they are.
    const void *region;
    /// Bytes of it.
    uint64_t region_len;
    /// For the library.
    uint64_t token;
} shmslot_mapped;

/// Makes attachments that map the regions announced on a channel. A channel has at most one, and
/// may be closed afterwards.
/// channel: NULL if all descriptors come by other means. flags: 0, or SHMSLOT_FLAG_UNSEALED for
/// shmslot_attachments_attach_fd; for the rest those of the channel count. ret_attachments: close
/// it with shmslot_attachments_close. reterr: NULL or filled on failure. Threads: any. Errors:
/// INVALID, BAD_OPTIONS, NO_MEMORY, SYS. Since 0.2.
int shmslot_attachments_create(shmslot_channel *channel, uint32_t flags,
                               shmslot_attachments **ret_attachments, shmslot_error *reterr);

/// Maps every region that has arrived; returns how many. Never waits. To be called when
/// shmslot_channel_fd is ready: it also unmaps regions that the sender has retired.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID, CHANNEL_BROKEN (permanently;
/// the detail says why), NO_MEMORY (a region waits for it; the others are mapped), SYS (EMFILE);
/// AGAIN (64 segments wait). Since 0.2.
int shmslot_attachments_drain(shmslot_attachments *attachments, shmslot_error *reterr);

/// The bytes that a reference, the numbers of the sender's lease, points to. Never waits, and
/// drains the
/// channel only if the region is not known yet.
/// ret_mapped: mapped until shmslot_attachments_release. reterr: NULL or filled on failure.
/// Threads: any. Errors: INVALID, UNKNOWN_MAPPING, OUT_OF_BOUNDS, OVERFLOW, CHANNEL_BROKEN; and
/// those of shmslot_attachments_drain. Since 0.2.
int shmslot_attachments_resolve(shmslot_attachments *attachments, uint32_t map_id,
                                uint32_t generation, uint64_t offset, uint64_t len,
                                shmslot_mapped *ret_mapped, shmslot_error *reterr);

/// Resolves as shmslot_attachments_resolve does, but sleeps on the channel until the region is
/// known: for references that travel faster than descriptors. UNKNOWN_MAPPING if it cannot be known
/// any more. Signals do not end it.
/// timeout_ns: nanoseconds, 0 not to wait, -1 for no limit. Otherwise as
/// shmslot_attachments_resolve; also BAD_TIMEOUT, AGAIN (timeout 0), TIMEOUT. Threads: any. Since
/// 0.2.
int shmslot_attachments_resolve_wait(shmslot_attachments *attachments, uint32_t map_id,
                                     uint32_t generation, uint64_t offset, uint64_t len,
                                     int64_t timeout_ns, shmslot_mapped *ret_mapped,
                                     shmslot_error *reterr);

/// Releases resolved bytes, also after shmslot_attachments_close. Threads: any. Errors: INVALID,
/// STALE. Since 0.2.
int shmslot_attachments_release(shmslot_attachments *attachments, const shmslot_mapped *mapped);

/// Maps a region whose descriptor came by other means. The descriptor stays the caller's. A region
/// that is known already, or in a newer generation, stays as it is.
/// reterr: NULL or filled on failure. Threads: any. Errors: INVALID (also length 0, a map_id of
/// 2^32 - 1, or more than docs/regions.md allows), NOT_A_FILE, NOT_SEALED, TRUNCATED (length is
/// more than the file has), NO_MEMORY, SYS. Since 0.2.
int shmslot_attachments_attach_fd(shmslot_attachments *attachments, uint32_t map_id,
                                  uint32_t generation, uint64_t length, int fd,
                                  shmslot_error *reterr);

/// Closes the attachments; NULL is fine. Bytes that were resolved stay mapped, and are released
/// with the same pointer; it dies with the last of them, or now if there are none.
/// Threads: any, once, while no call but releases uses it. Since 0.2.
void shmslot_attachments_close(shmslot_attachments *attachments);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMSLOT_POOL_H */
