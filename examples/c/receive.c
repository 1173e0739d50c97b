/* receive NAME FILE: writes to a file what send.c streams through the segment NAME, and reports how
 * fast it arrived. */
#define _POSIX_C_SOURCE 200809L
#include <shmslot.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

/* One number per sample, kept until the end, because percentiles need all of them. */
struct latencies {
    uint64_t *ns;
    size_t count, room;
};

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "receive: %s: %s\n", what, why);
    return 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)(now.tv_sec * SECOND + now.tv_nsec);
}

static int add(struct latencies *all, uint64_t ns)
{
    if (all->count == all->room) {
        size_t room = all->room == 0 ? 4096 : 2 * all->room;
        uint64_t *grown = (uint64_t *)realloc(all->ns, room * sizeof *grown);
        if (grown == NULL)
            return fail("latencies", strerror(ENOMEM));
        all->ns = grown;
        all->room = room;
    }
    all->ns[all->count++] = ns;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void report(struct latencies *all, uint64_t received, uint64_t lost, double seconds)
{
    const uint64_t *ns = all->ns;
    size_t last = all->count - 1; /* there is always the empty sample */

    qsort(all->ns, all->count, sizeof *all->ns, by_value);
    printf("C receiver:    %.1f MB in %zu samples, %.2f s: %.0f MB/s, %.0f samples/s, "
           "latency p50 %.1f us, p99 %.1f us, max %.1f us, lost = %" PRIu64 "\n",
           (double)received / 1e6, all->count, seconds, (double)received / 1e6 / seconds,
           (double)all->count / seconds, (double)ns[last / 2] / 1e3,
           (double)ns[last - last / 100] / 1e3, (double)ns[last] / 1e3, lost);
}

static int receive(shmslot_reader *reader, FILE *file)
{
    struct latencies all = {NULL, 0, 0};
    uint64_t start = 0, received = 0, lost = 0;
    shmslot_sample sample;
    int code, status = 0;

    do {
        code = shmslot_wait(reader, 30 * SECOND); /* a sender that was killed sends no end */
        if (code < 0) {
            status = fail("wait", shmslot_strerror(code));
            break;
        }
        code = shmslot_slot_read(reader, &sample);
        if (code < 0) {
            status = fail("read", shmslot_strerror(code));
            break;
        }
        if (start == 0)
            start = sample.timestamp_ns;
        status = add(&all, now_ns() - sample.timestamp_ns);
        if (status == 0 && fwrite(sample.data, 1, sample.len, file) != sample.len)
            status = fail("write", strerror(errno));
        received += sample.len;
        code = shmslot_slot_mark(reader, &sample); /* from here on the slot may be written again */
        if (code < 0)
            status = fail("mark", shmslot_strerror(code));
    } while (status == 0 && sample.len > 0);

    code = shmslot_reader_lost(reader, &lost);
    if (code < 0)
        status = fail("lost", shmslot_strerror(code));
    if (status == 0)
        report(&all, received, lost, (double)(now_ns() - start) / 1e9);
    free(all.ns);
    return status;
}

int main(int argc, char **argv)
{
    shmslot_segment *segment = NULL;
    shmslot_reader *reader = NULL;
    shmslot_error error;
    FILE *file;
    int status;

    if (argc != 3) {
        fprintf(stderr, "usage: receive NAME FILE\n");
        return 2;
    }
    file = fopen(argv[2], "wb");
    if (file == NULL)
        return fail(argv[2], strerror(errno));
    /* The sender may start later than this program. */
    if (shmslot_segment_attach_wait(argv[1], NULL, 10 * SECOND, &segment, &error) < 0)
        return fail(argv[1], error.text);
    if (shmslot_reader_join(segment, 0, &reader, &error) < 0)
        status = fail("join", error.text);
    else
        status = receive(reader, file);

    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    if (fclose(file) != 0) /* the last bytes may be refused only now */
        status = fail(argv[2], strerror(errno));
    return status;
}
