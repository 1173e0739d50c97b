/* Sends numbers, and waits for free slots in libuv, while a timer goes on.
 * Usage: libuv_send SEGMENT COUNT */
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

static shmslot_writer *writer;
static unsigned long next, last, ticks;

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    while (next < last) { /* until no slot is free, which arms it */
        int code = shmslot_slot_write(writer, &next, sizeof next, 0, NULL);
        if (code == SHMSLOT_E_NO_FREE_SLOT) return;
        must(code);
        next++;
    }
    uv_close((uv_handle_t *)poll, NULL);
}

static void on_tick(uv_timer_t *timer)
{
    ticks++;
    if (next == last) uv_close((uv_handle_t *)timer, NULL);
}

int main(int count, char **arguments)
{
    uv_loop_t *loop = uv_default_loop();
    uv_timer_t timer;
    uv_poll_t poll;
    shmslot_segment *segment;
    int fd;
    if (count != 3) return 2;
    last = strtoul(arguments[2], NULL, 10);
    must(shmslot_segment_attach(arguments[1], NULL, &segment, NULL));
    must(shmslot_writer_open(segment, &writer, NULL));
    must(shmslot_writer_fd(writer, 0, &fd, NULL));
    uv_poll_init(loop, &poll, fd);
    uv_poll_start(&poll, UV_READABLE, on_readable);
    uv_timer_init(loop, &timer);
    uv_timer_start(&timer, on_tick, 1, 1);
    uv_run(loop, UV_RUN_DEFAULT);
    shmslot_writer_close(writer); /* after uv_close: it closes the descriptor */
    shmslot_segment_close(segment);
    uv_loop_close(loop);
    return ticks > 0 ? 0 : 1;
}
