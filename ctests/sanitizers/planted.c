/* Must-fail controls of ctests/sanitizers/run: a tool that does not report these would report
 * nothing else either. */
#include "../samples.h"

static void heap_overflow(void)
{
    volatile size_t size = 8; /* the compiler must not know it, or another check is faster */
    volatile char *bytes = malloc(size);
    CHECK(bytes != NULL);
    bytes[size] = 1;
    free((void *)bytes);
}

static void signed_overflow(void)
{
    volatile int number = INT32_MAX;
    number = number + 1;
}

/* A segment that nobody closes: the library allocated it. */
static void leak(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *volatile segment = make_anonymous(&options);
    segment = NULL;
    (void)segment;
}

/* The library stores into memory that the caller has freed. Its own code does that, and no function
 * of libc, so it is reported only if the library itself was compiled for the sanitizer. */
static void library_use_after_free(void)
{
    shmslot_options options = options_of(2, 8);
    shmslot_segment *segment = make_anonymous(&options);
    uint64_t *volatile sequence = malloc(sizeof *sequence);
    shmslot_writer *writer = open_writer(segment);
    free(sequence);
    CHECK_OK(shmslot_slot_write(writer, "x", 1, AT_ONCE, sequence));
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

static const struct {
    const char *name;
    void (*commit)(void);
} table[] = {
    {"heap-overflow", heap_overflow},
    {"signed-overflow", signed_overflow},
    {"leak", leak},
    {"library-use-after-free", library_use_after_free},
};

int main(int count, char **arguments)
{
    size_t i;
    check_begin();
    CHECK(count == 2);
    for (i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strcmp(arguments[1], table[i].name) == 0) {
            table[i].commit();
            return 0;
        }
    }
    fprintf(stderr, "no such defect: %s\n", arguments[1]);
    return 2;
}
