/* Defects of other shared-memory libraries that must not exist here, as far as they concern the C
 * boundary: one check per defect, in the situation that shows it there. docs/known-defects.md lists
 * them all. */
#include "plain_channel.h"
#include "samples.h"

#include <dirent.h>

/* ---- tokens ---- */

#define RACE_SLOTS 64
#define RACE_ROUNDS 1000

struct race {
    pthread_barrier_t barrier;
    shmslot_writer *writer;
    shmslot_reader *reader;
    shmslot_loan loans[RACE_SLOTS];
    shmslot_sample samples[RACE_SLOTS];
    int results[2][RACE_SLOTS];
};

struct racer {
    struct race *race;
    int number;
};

static void race_meet(struct race *race)
{
    int met = pthread_barrier_wait(&race->barrier);
    CHECK(met == 0 || met == PTHREAD_BARRIER_SERIAL_THREAD);
}

/* Both racers make equal steps; the one behind has less to do at each step and catches up, so they
 * meet again and again. */
static void *race_to_free(void *argument)
{
    const struct racer *self = argument;
    struct race *race = self->race;
    int *results = race->results[self->number], round, i;
    for (round = 0; round < RACE_ROUNDS; round++) {
        race_meet(race);
        for (i = 0; i < RACE_SLOTS; i++)
            results[i] = shmslot_slot_discard(race->writer, &race->loans[i]);
        race_meet(race);
        race_meet(race);
        for (i = 0; i < RACE_SLOTS; i++) {
            results[i] = self->number == 0
                             ? shmslot_slot_commit(race->writer, &race->loans[i], 8, NULL)
                             : shmslot_slot_discard(race->writer, &race->loans[i]);
        }
        race_meet(race);
        race_meet(race);
        for (i = 0; i < RACE_SLOTS; i++)
            results[i] = shmslot_slot_mark(race->reader, &race->samples[i]);
        race_meet(race);
    }
    return NULL;
}

/* Lets both racers run; of each pair of calls one succeeded. */
static void run_race(struct race *race)
{
    int i;
    race_meet(race);
    race_meet(race);
    for (i = 0; i < RACE_SLOTS; i++) {
        int first = race->results[0][i], second = race->results[1][i];
        CHECK(first == SHMSLOT_OK || second == SHMSLOT_OK);
        CHECK_CODE(first == SHMSLOT_OK ? second : first, SHMSLOT_E_STALE);
    }
}

static void reserve_all(struct race *race)
{
    shmslot_loan none;
    int i, j;
    for (i = 0; i < RACE_SLOTS; i++) {
        CHECK_OK(shmslot_slot_reserve(race->writer, 8, AT_ONCE, &race->loans[i]));
        for (j = 0; j < i; j++) CHECK(race->loans[i].data != race->loans[j].data);
    }
    CHECK_CODE(shmslot_slot_reserve(race->writer, 8, AT_ONCE, &none), SHMSLOT_E_NO_FREE_SLOT);
}

/* There two frees at once both passed the check, and the next two allocations got one slot. */
static void vox_double_free_race(void)
{
    shmslot_options options = options_of(RACE_SLOTS, 64);
    shmslot_segment *segment = make_anonymous(&options);
    static struct race race;
    struct racer racers[2];
    pthread_t threads[2];
    int round, i;
    race.writer = open_writer(segment);
    race.reader = join(segment, 0);
    CHECK(pthread_barrier_init(&race.barrier, NULL, 3) == 0);
    for (i = 0; i < 2; i++) {
        racers[i].race = &race;
        racers[i].number = i;
        threads[i] = start_thread(race_to_free, &racers[i]);
    }
    for (round = 0; round < RACE_ROUNDS; round++) {
        int committed = 0;
        reserve_all(&race);
        run_race(&race);
        reserve_all(&race);
        run_race(&race);
        for (i = 0; i < RACE_SLOTS; i++) committed += race.results[0][i] == SHMSLOT_OK;
        for (i = committed; i < RACE_SLOTS; i++) (void)put(race.writer, 1);
        for (i = 0; i < RACE_SLOTS; i++) race.samples[i] = hold(race.reader);
        check_nothing_to_read(race.reader);
        run_race(&race);
    }
    for (i = 0; i < 2; i++) end_thread(threads[i]);
    CHECK(pthread_barrier_destroy(&race.barrier) == 0);
    shmslot_reader_leave(race.reader);
    shmslot_writer_close(race.writer);
    shmslot_segment_close(segment);
}

/* There a payload pointer was computed from any number, even outside the pool. */
static void ffi_payload_ptr_out_of_pool(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_ref reference, forged;
    const void *data = NULL;
    void *writable = NULL;
    size_t len = 0;
    int bit;
    CHECK_OK(shmslot_ref_reserve(segment, 1, &reference));
    CHECK_OK(shmslot_ref_commit_copy(segment, &reference, "x", 1, NULL));
    CHECK_OK(shmslot_ref_read_ptr(segment, &reference, &data, &len));
    data = NULL;
    for (bit = 0; bit < 64; bit++) { /* whichever bits are the slot's, they are among these */
        forged = reference;
        forged.token ^= UINT64_C(1) << bit;
        CHECK_CODE(shmslot_ref_read_ptr(segment, &forged, &data, &len), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_ref_data_ptr(segment, &forged, &writable, &len), SHMSLOT_E_STALE);
        forged = reference;
        forged.segment_id ^= UINT64_C(1) << bit;
        CHECK_CODE(shmslot_ref_read_ptr(segment, &forged, &data, &len), SHMSLOT_E_STALE);
    }
    CHECK(data == NULL && writable == NULL);
    shmslot_segment_close(segment);
}

/* There marking a slot as in use always succeeded, whatever the state of the slot. */
static void ffi_mark_in_flight_always_succeeds(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0), *other = join(segment, 0);
    shmslot_ref reference;
    shmslot_sample sample;
    shmslot_loan loan;
    CHECK_OK(shmslot_ref_reserve(segment, 1, &reference));
    /* nothing is published yet */
    CHECK_CODE(shmslot_ref_mark_read(segment, &reference, 0), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_ref_discard(segment, &reference));
    CHECK_CODE(shmslot_ref_mark_read(segment, &reference, 0), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_ref_commit_in_place(segment, &reference, 0, NULL), SHMSLOT_E_STALE);

    (void)put(writer, 1);
    sample = hold(reader);
    CHECK_CODE(shmslot_slot_mark(other, &sample), SHMSLOT_E_STALE); /* it does not hold it */
    CHECK_CODE(shmslot_slot_mark_ptr(other, sample.data), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_CODE(shmslot_slot_mark(reader, &sample), SHMSLOT_E_STALE);
    CHECK_U64(take(other), 1);

    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_CODE(shmslot_slot_mark_ptr(reader, loan.data), SHMSLOT_E_STALE);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
    CHECK_CODE(shmslot_slot_discard(writer, &loan), SHMSLOT_E_STALE);
    shmslot_reader_leave(other);
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* There a size class that does not exist, or another number out of range, ended the process. */
static void ffi_bad_class_aborts(void)
{
    static const uint32_t numbers[] = {63, 64, 255, 256, 65535, UINT32_MAX};
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options);
    shmslot_writer *writer = open_writer(segment);
    shmslot_reader *reader = join(segment, 0);
    shmslot_ref reference;
    shmslot_loan loan;
    shmslot_sample sample;
    size_t i;
    CHECK_OK(shmslot_ref_reserve(segment, 1, &reference));
    CHECK_OK(shmslot_ref_commit_copy(segment, &reference, "x", 1, NULL));
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        shmslot_ref found;
        CHECK_CODE(shmslot_ref_next_unread(segment, numbers[i], &found), SHMSLOT_E_BAD_INDEX);
        CHECK_CODE(shmslot_ref_mark_read(segment, &reference, numbers[i]), SHMSLOT_E_BAD_INDEX);
        CHECK_CODE(shmslot_ref_mark_reader_disconnected(segment, numbers[i]), SHMSLOT_E_BAD_INDEX);
        sample = hold(reader);
        sample.slot = numbers[i];
        CHECK_CODE(shmslot_slot_mark(reader, &sample), SHMSLOT_E_STALE);
        CHECK_OK(shmslot_slot_mark_ptr(reader, sample.data));
        (void)put(writer, 1);
        CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
        loan.token ^= (uint64_t)numbers[i] | UINT64_C(1) << 62;
        CHECK_CODE(shmslot_slot_commit(writer, &loan, 8, NULL), SHMSLOT_E_STALE);
        CHECK_CODE(shmslot_slot_discard(writer, &loan), SHMSLOT_E_STALE);
        CHECK_OK(shmslot_slot_discard_ptr(writer, loan.data));
        CHECK_OK(shmslot_ref_mark_reader_disconnected(segment, 0));
    }
    shmslot_reader_leave(reader);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

/* ---- attaching ---- */

static size_t open_descriptors(void)
{
    size_t count = 0;
    DIR *stream = opendir("/proc/self/fd");
    CHECK(stream != NULL);
    while (readdir(stream) != NULL) count++;
    CHECK(closedir(stream) == 0);
    return count;
}

/* A sealed memory file that begins like the segment and ends after size bytes. */
static int sealed_copy(int segment_fd, size_t size)
{
    char *bytes = malloc(size);
    int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(bytes != NULL && fd >= 0);
    CHECK(pread(segment_fd, bytes, size, 0) == (ssize_t)size);
    CHECK(write(fd, bytes, size) == (ssize_t)size);
    CHECK(fchmod(fd, 0600) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    free(bytes);
    return fd;
}

/* There a region smaller than its contents ended the process. And a refused file kept its
 * descriptor open. */
static void ffi_small_region_aborts(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *segment = make_anonymous(&options), *other = NULL;
    int own = shmslot_segment_fd(segment);
    size_t size = (size_t)info_of(segment).total_size, cut, before = open_descriptors();
    for (cut = 1; cut < size; cut += cut < 600 ? 37 : 1001) {
        int fd = sealed_copy(own, cut);
        CHECK_CODE(shmslot_segment_attach_fd(fd, NULL, &other, NULL), SHMSLOT_E_TRUNCATED);
        CHECK(close(fd) == 0);
    }
    CHECK(other == NULL);
    CHECK_U64(open_descriptors(), before);
    shmslot_segment_close(segment);
}

/* There two descriptors in a message were too many, and the second one stayed open, as did those of
 * refused messages. Here attaching keeps exactly one of its own until it is closed, and one to pass
 * on if that is requested. */
static void vox_second_fd_leaks(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_attach_options other_type = SHMSLOT_ATTACH_OPTIONS_INIT;
    size_t before = open_descriptors();
    shmslot_segment *segment = make_anonymous(&options), *other = NULL;
    int i;
    CHECK_U64(open_descriptors(), before + 1);
    CHECK_OK(shmslot_segment_fd(segment));
    CHECK_OK(shmslot_segment_fd(segment)); /* always the same */
    CHECK_U64(open_descriptors(), before + 2);
    memset(other_type.type_hash, 7, sizeof other_type.type_hash);
    for (i = 0; i < 100; i++) {
        CHECK_CODE(
            shmslot_segment_attach_fd(shmslot_segment_fd(segment), &other_type, &other, NULL),
            SHMSLOT_E_TYPE_MISMATCH);
        CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(segment), NULL, &other, NULL));
        CHECK_U64(open_descriptors(), before + 3);
        shmslot_segment_close(other);
    }
    shmslot_segment_close(segment);
    CHECK_U64(open_descriptors(), before);
}

/* There attaching a key again unmapped the memory to which earlier pointers pointed. */
static void ffi_second_attach_unmaps(void)
{
    shmslot_options options = options_of(4, 64);
    shmslot_segment *first = make_anonymous(&options), *second = NULL;
    shmslot_writer *writer = open_writer(first), *second_writer;
    shmslot_reader *reader = join(first, 0);
    shmslot_sample sample;
    shmslot_loan loan;
    (void)put(writer, 41);
    sample = hold(reader);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_OK(shmslot_segment_attach_fd(shmslot_segment_fd(first), NULL, &second, NULL));
    CHECK_U64(value_of(&sample), 41);
    second_writer = open_writer(second);
    (void)put(second_writer, 42);
    shmslot_writer_close(second_writer);
    shmslot_segment_close(second);
    CHECK_U64(value_of(&sample), 41);
    memset(loan.data, 0, 8);
    CHECK_OK(shmslot_slot_commit(writer, &loan, 8, NULL));
    CHECK_OK(shmslot_slot_mark(reader, &sample));
    CHECK_U64(take(reader), 42);
    CHECK_U64(take(reader), 0);

    /* Closing the segment does not unmap it either. */
    (void)put(writer, 43);
    sample = hold(reader);
    shmslot_segment_close(first);
    shmslot_writer_close(writer);
    CHECK_U64(value_of(&sample), 43);
    shmslot_reader_leave(reader);
    CHECK_U64(value_of(&sample), 43);
    CHECK_OK(shmslot_slot_mark(reader, &sample));
}

/* There the file was made with mode 0666. */
static void vox_world_writable_segment(void)
{
    char name[64], path[128];
    shmslot_options options = options_of(4, 64);
    mode_t old_mask = umask(0);
    shmslot_segment *segment = make_named(unique_name(name, sizeof name, "mode"), &options),
                    *anonymous;
    struct stat status;
    size_t length = 0;
    CHECK_OK(shmslot_segment_path(segment, path, sizeof path, &length));
    CHECK(length < sizeof path);
    CHECK(stat(path, &status) == 0);
    CHECK_U64(status.st_mode & 07777, 0600);
    CHECK_U64(status.st_uid, geteuid());
    anonymous = make_anonymous(&options);
    CHECK(fstat(shmslot_segment_fd(anonymous), &status) == 0);
    CHECK_U64(status.st_mode & 07777, 0600);
    (void)umask(old_mask);
    CHECK_OK(shmslot_segment_unlink(name, NULL));
    shmslot_segment_close(anonymous);
    shmslot_segment_close(segment);
}

/* ---- channels ---- */

#define PAGE UINT64_C(4096)
#define OWN_MAP 1 /* the region that a listener has before the other end misbehaves */

/* The receiving end of regions from a plain socket. */
struct listener {
    int plain;
    shmslot_channel *channel;
    shmslot_attachments *attachments;
};

static void send_region_(int plain, uint32_t map_id, uint64_t length, size_t copies)
{
    unsigned char message[16];
    int fds[3], file = sealed_file(PAGE);
    CHECK(copies <= 3);
    fds[0] = fds[1] = fds[2] = file;
    attach_message(message, map_id, 1, length);
    CHECK(send_raw(plain, message, sizeof message, fds, copies) == 0);
    CHECK(close(file) == 0);
}
#define send_region(plain, map_id, length, copies)                                                 \
    CHECK_HERE(send_region_(plain, map_id, length, copies))

/* It has one valid region. */
static struct listener open_listener(int type)
{
    struct listener listener = {-1, NULL, NULL};
    int pair[2];
    CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) == 0);
    listener.plain = pair[0];
    CHECK_OK(shmslot_channel_from_fd(pair[1], 0, &listener.channel, NULL));
    CHECK(close(pair[1]) == 0);
    CHECK_OK(shmslot_attachments_create(listener.channel, 0, &listener.attachments, NULL));
    send_region(listener.plain, OWN_MAP, PAGE, 1);
    CHECK_CODE(shmslot_attachments_drain(listener.attachments, NULL), 1);
    return listener;
}

static void close_listener(struct listener listener)
{
    shmslot_attachments_close(listener.attachments);
    shmslot_channel_close(listener.channel);
    CHECK(close(listener.plain) == 0);
}

static int resolve(struct listener listener, uint32_t map_id, uint64_t len, shmslot_mapped *mapped)
{
    return shmslot_attachments_resolve(listener.attachments, map_id, 1, 0, len, mapped, NULL);
}

/* There the length in a message was trusted, and an access after the end of the file caused
 * SIGBUS. */
static void vox_length_not_checked_sigbus_of_regions(void)
{
    static const uint64_t lengths[] = {
        PAGE + 1, 2 * PAGE, UINT64_C(1) << 40, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX, 0};
    shmslot_mapped mapped;
    size_t i;
    for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct listener listener = open_listener(SOCK_SEQPACKET);
        CHECK_OK(resolve(listener, OWN_MAP, PAGE, &mapped));
        CHECK_CODE(resolve(listener, OWN_MAP, PAGE + 1, &mapped), SHMSLOT_E_OUT_OF_BOUNDS);
        send_region(listener.plain, 2, lengths[i], 1);
        CHECK_CODE(shmslot_attachments_drain(listener.attachments, NULL), SHMSLOT_E_CHANNEL_BROKEN);
        CHECK(((const char *)mapped.data)[PAGE - 1] == 0);
        CHECK_OK(shmslot_attachments_release(listener.attachments, &mapped));
        close_listener(listener);
    }
}

/* There two descriptors in one message were too many, and the second one stayed open, as did those
 * of messages that were refused for another reason. */
static void vox_second_fd_leaks_of_regions(void)
{
    size_t copies, before = open_descriptors(), opened;
    int round;
    for (round = 0; round < 100; round++) {
        for (copies = 1; copies <= 3; copies++) {
            struct listener listener = open_listener(round % 2 == 0 ? SOCK_SEQPACKET : SOCK_STREAM);
            opened = open_descriptors();
            send_region(listener.plain, 2, copies == 1 ? PAGE + 1 : PAGE, copies);
            CHECK_CODE(shmslot_attachments_drain(listener.attachments, NULL),
                       SHMSLOT_E_CHANNEL_BROKEN);
            CHECK_U64(open_descriptors(), opened);
            close_listener(listener);
        }
    }
    CHECK_U64(open_descriptors(), before);
}

/* The channel is broken from now on, whatever follows the violation, and the other end is told. */
static void check_ended_(struct listener listener)
{
    shmslot_mapped mapped;
    char byte;
    int turn;
    for (turn = 0; turn < 3; turn++) {
        CHECK_CODE(shmslot_attachments_drain(listener.attachments, NULL), SHMSLOT_E_CHANNEL_BROKEN);
        CHECK_CODE(resolve(listener, 3, 1, &mapped), SHMSLOT_E_CHANNEL_BROKEN);
        CHECK_CODE(resolve(listener, OWN_MAP, 1, &mapped), SHMSLOT_E_CHANNEL_BROKEN);
        CHECK_CODE(shmslot_attachments_resolve_wait(listener.attachments, 3, 1, 0, 1, FOR_EVER,
                                                    &mapped, NULL),
                   SHMSLOT_E_CHANNEL_BROKEN);
    }
    CHECK(recv(listener.plain, &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
    CHECK(send(listener.plain, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
}
#define check_ended(listener) CHECK_HERE(check_ended_(listener))

/* There a malformed message was skipped, and the next one was accepted. */
static void ffi_malformed_not_terminal(void)
{
    /* Without a descriptor, with one too many, with a file that is too short, empty. */
    static const size_t copies[] = {0, 2, 1, 1};
    static const uint64_t lengths[] = {PAGE, PAGE, 2 * PAGE, 0};
    size_t which;
    for (which = 0; which < sizeof copies / sizeof copies[0]; which++) {
        struct listener listener = open_listener(SOCK_SEQPACKET);
        send_region(listener.plain, 2, lengths[which], copies[which]);
        send_region(listener.plain, 3, PAGE, 1);
        check_ended(listener);
        close_listener(listener);
    }
}

/* There a body of 64 bytes was accepted for one of 16. */
static void ffi_long_body_accepted(void)
{
    unsigned char message[64];
    int file = sealed_file(PAGE);
    size_t size;
    memset(message, 0, sizeof message);
    attach_message(message, 2, 1, PAGE);
    for (size = 17; size <= sizeof message; size++) {
        struct listener listener = open_listener(SOCK_SEQPACKET);
        CHECK(send_raw(listener.plain, message, size, &file, 1) == 0);
        send_region(listener.plain, 3, PAGE, 1);
        check_ended(listener);
        close_listener(listener);
    }
    CHECK(close(file) == 0);
}

static int send_plainly_to_nobody(int link, void *argument)
{
    int pair[2];
    (void)link;
    (void)argument;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    /* for the other kinds Linux raises nothing */
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(close(pair[1]) == 0);
    (void)send(pair[0], "x", 1, 0);
    return 0;
}

static int send_to_nobody(int link, void *argument)
{
    static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM};
    shmslot_segment *segment = NULL;
    shmslot_registry *registry = NULL;
    shmslot_lease lease;
    size_t t;
    (void)link;
    (void)argument;
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK_OK(shmslot_segment_create_anonymous(NULL, &segment, NULL));
    for (t = 0; t < sizeof types / sizeof types[0]; t++) {
        struct listener listener = open_listener(types[t]);
        CHECK_OK(shmslot_registry_create(NULL, &registry, NULL));
        CHECK_OK(shmslot_registry_add(registry, listener.channel, AT_ONCE, NULL));
        CHECK(close(listener.plain) == 0);
        /* takes the channel out */
        CHECK_CODE(shmslot_region_alloc(registry, 1, FOR_EVER, &lease, NULL), 1);
        CHECK_CODE(shmslot_channel_send_segment(listener.channel, segment, FOR_EVER, NULL),
                   SHMSLOT_E_CHANNEL_BROKEN);
        CHECK_OK(shmslot_region_release(registry, &lease));
        shmslot_registry_close(registry);
        shmslot_attachments_close(listener.attachments);
        shmslot_channel_close(listener.channel);
    }
    shmslot_segment_close(segment);
    return 0;
}

/* There sending to an end that is gone raised SIGPIPE, which ends a program that does not handle
 * it. */
static void vox_sigpipe(void)
{
    CHECK_U64((uint64_t)run_child(send_plainly_to_nobody, NULL), 128 + SIGPIPE);
    CHECK_U64((uint64_t)run_child(send_to_nobody, NULL), 0);
}

CHECK_MAIN()
{
    RUN(vox_double_free_race());
    RUN(ffi_payload_ptr_out_of_pool());
    RUN(ffi_mark_in_flight_always_succeeds());
    RUN(ffi_bad_class_aborts());
    RUN(ffi_small_region_aborts());
    RUN(vox_second_fd_leaks());
    RUN(ffi_second_attach_unmaps());
    RUN(vox_world_writable_segment());
    RUN(vox_length_not_checked_sigbus_of_regions());
    RUN(vox_second_fd_leaks_of_regions());
    RUN(ffi_malformed_not_terminal());
    RUN(ffi_long_body_accepted());
    RUN(vox_sigpipe());
}
