/* Receives from two segments, with a timer beside them, in libuv. Usage: libuv FIRST SECOND */
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

static struct source {
    uv_poll_t poll; /* first: libuv gives it back */
    shmslot_reader *reader;
    unsigned long got;
} sources[2];
static unsigned long ticks;
static int left = 2;

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct source *source = (struct source *)poll;
    shmslot_sample sample;
    int code;
    (void)status;
    (void)events;
    while ((code = shmslot_slot_read(source->reader, &sample)) == 0) {
        source->got++;
        must(shmslot_slot_mark(source->reader, &sample));
    }
    if (code == SHMSLOT_E_NO_WRITERS) {
        uv_close((uv_handle_t *)poll, NULL);
        left--;
    } else if (code != SHMSLOT_E_AGAIN) {
        must(code);
    }
}

static void on_tick(uv_timer_t *timer)
{
    ticks++;
    if (left == 0) uv_close((uv_handle_t *)timer, NULL);
}

int main(int count, char **arguments)
{
    uv_loop_t *loop = uv_default_loop();
    uv_timer_t timer;
    shmslot_segment *segments[2];
    int i, fd;
    if (count != 3) return 2;
    for (i = 0; i < 2; i++) {
        must(shmslot_segment_attach(arguments[1 + i], NULL, &segments[i], NULL));
        must(shmslot_reader_join(segments[i], 0, &sources[i].reader, NULL));
        must(shmslot_reader_end_waits(sources[i].reader, SHMSLOT_END_NO_WRITERS));
        must(shmslot_reader_fd(sources[i].reader, 0, &fd, NULL));
        uv_poll_init(loop, &sources[i].poll, fd);
        uv_poll_start(&sources[i].poll, UV_READABLE, on_readable);
    }
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, on_tick, 1, 1);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("%lu %lu\n", sources[0].got, sources[1].got);
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(sources[i].reader); /* after uv_close: it closes the descriptor */
        shmslot_segment_close(segments[i]);
    }
    uv_loop_close(loop);
    return ticks > 0 ? 0 : 1;
}
