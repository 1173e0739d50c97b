/* Waits of a set do not allocate: this program has a malloc that counts. */
/* not under address, thread, memcheck, musl: they have a malloc of their own */
/* not under aarch64: the emulator tells of no accesses to files */
#include "event_loop.h"

#define ROUNDS 1000
#define MEMBERS 40

void *__libc_malloc(size_t size);
void *__libc_realloc(void *old, size_t size);
static unsigned long allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

static void check_waits(uint32_t flags)
{
    shmslot_event events[MEMBERS];
    shmslot_reader *readers[MEMBERS];
    shmslot_segment *segment;
    shmslot_options options = options_of(4, 8);
    shmslot_writer *writer;
    shmslot_sample sample;
    shmslot_set *set;
    unsigned long before = 0;
    uint64_t round, i;
    options.max_readers = MEMBERS;
    segment = make_anonymous(&options);
    CHECK_OK(shmslot_writer_open(segment, &writer, NULL));
    CHECK_OK(shmslot_set_create(flags, &set, NULL));
    for (i = 0; i < MEMBERS; i++) {
        CHECK_OK(shmslot_reader_join(segment, 0, &readers[i], NULL));
        CHECK_OK(shmslot_set_add_reader(set, readers[i], i, NULL));
    }
    CHECK(allocations > 0);
    for (round = 0; round < ROUNDS; round++) {
        if (round == 2) before = allocations; /* the first turns make room */
        CHECK_OK(shmslot_slot_write(writer, &round, sizeof round, AT_ONCE, NULL));
        CHECK_U64((uint64_t)shmslot_set_wait(set, FOR_EVER, events, MEMBERS), MEMBERS);
        for (i = 0; i < MEMBERS; i++) {
            CHECK_OK(shmslot_slot_read(readers[i], &sample));
            CHECK_OK(shmslot_slot_mark(readers[i], &sample));
            CHECK_CODE(shmslot_slot_read(readers[i], &sample), SHMSLOT_E_AGAIN);
        }
        CHECK_U64((uint64_t)shmslot_set_wait(set, AT_ONCE, events, MEMBERS), 0);
    }
    CHECK_U64(allocations, before);
    shmslot_set_close(set);
    for (i = 0; i < MEMBERS; i++) shmslot_reader_leave(readers[i]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

CHECK_MAIN()
{
    RUN(check_waits(0));
    RUN(check_waits(SHMSLOT_SET_EDGE));
}
