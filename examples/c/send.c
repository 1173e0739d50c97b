/* send NAME FILE READERS: streams a file through the segment NAME, once that many readers have
 * joined. The last sample is an empty one. Readers may be in any language; see receive.c and
 * ../rust/receive.rs. */
#define _POSIX_C_SOURCE 200809L
#include <shmslot.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND (1000 * MILLISECOND)

enum { SLOT_COUNT = 64, SLOT_CAPACITY = 64 * 1024 };

/* by a signal: leave the loops, so that the segment is unlinked */
static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "send: %s: %s\n", what, why);
    return 1;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int await_readers(shmslot_writer *writer, uint32_t count)
{
    const int64_t deadline = now_ns() + 30 * SECOND;
    shmslot_error error;
    int code;

    do { /* look at the signal flag now and then */
        code = shmslot_wait_readers(writer, count, 100 * MILLISECOND, &error);
        if (stopped)
            return fail("stopped", "by a signal");
    } while (code == SHMSLOT_E_TIMEOUT && now_ns() < deadline);
    return code < 0 ? fail("readers", error.text) : 0;
}

static void show_progress(uint64_t sent, uint64_t size)
{
    enum { WIDTH = 40 };
    static const char bar[WIDTH + 1] = "########################################";
    int percent = size == 0 || sent >= size ? 100 : (int)(sent * 100 / size);
    fprintf(stderr, "\r[%-*.*s] %3d %%", WIDTH, WIDTH * percent / 100, bar, percent);
}

/* The file is read directly into the slots; a read of nothing makes the empty sample that ends the
 * stream. */
static int stream(shmslot_writer *writer, FILE *file, uint64_t size)
{
    const int on_terminal = isatty(STDERR_FILENO);
    const int64_t start = now_ns();
    int64_t next_progress = start;
    uint64_t sent = 0, samples = 0;
    size_t len;
    double seconds;

    do {
        shmslot_loan loan;
        int code;
        do { /* a full segment blocks us; look at the signal flag now and then */
            code = shmslot_slot_reserve(writer, SLOT_CAPACITY, 100 * MILLISECOND, &loan);
            if (stopped)
                return fail("stopped", "by a signal");
        } while (code == SHMSLOT_E_NO_FREE_SLOT);
        if (code < 0)
            return fail("reserve", shmslot_strerror(code));

        len = fread(loan.data, 1, SLOT_CAPACITY, file);
        if (ferror(file))
            return fail("read", strerror(errno)); /* closing the writer discards the loan */

        code = shmslot_slot_commit(writer, &loan, len, NULL);
        if (code < 0)
            return fail("commit", shmslot_strerror(code));
        sent += len;
        samples++;
        if (on_terminal && (len == 0 || now_ns() >= next_progress)) {
            show_progress(sent, size);
            next_progress = now_ns() + 50 * MILLISECOND;
        }
    } while (len > 0);

    if (on_terminal)
        fputc('\n', stderr);
    seconds = (double)(now_ns() - start) / 1e9;
    printf("C sender:      %.1f MB in %" PRIu64 " samples, %.2f s: %.0f MB/s, %.0f samples/s\n",
           (double)sent / 1e6, samples, seconds, (double)sent / 1e6 / seconds,
           (double)samples / seconds);
    return 0;
}

static int send_file(shmslot_segment *segment, FILE *file, uint64_t size, uint32_t readers)
{
    shmslot_writer *writer = NULL;
    shmslot_error error;
    int status;

    if (shmslot_writer_open(segment, &writer, &error) < 0)
        return fail("writer", error.text);
    status = await_readers(writer, readers);
    if (status == 0)
        status = stream(writer, file, size);
    shmslot_writer_close(writer);
    return status;
}

int main(int argc, char **argv)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_error error;
    struct sigaction action;
    struct stat about;
    FILE *file;
    int readers, status;

    if (argc != 4 || (readers = atoi(argv[3])) < 1) {
        fprintf(stderr, "usage: send NAME FILE READERS\n");
        return 2;
    }
    file = fopen(argv[2], "rb");
    if (file == NULL || fstat(fileno(file), &about) != 0)
        return fail(argv[2], strerror(errno));

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);

    options.flags = SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS;
    options.policy = SHMSLOT_POLICY_BLOCK;
    options.slot_count = SLOT_COUNT;
    options.slot_capacity = SLOT_CAPACITY;
    if (shmslot_segment_create(argv[1], &options, &segment, &error) < 0)
        return fail(argv[1], error.text);

    status = send_file(segment, file, (uint64_t)about.st_size, (uint32_t)readers);

    /* readers keep what they have not read, and need no name for it */
    shmslot_segment_close(segment);
    if (shmslot_segment_unlink(argv[1], &error) < 0)
        status = fail(argv[1], error.text);
    fclose(file);
    return status;
}
