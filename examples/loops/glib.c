/* Receives from two segments, with a timer beside them, in GLib's main loop.
 * Usage: glib FIRST SECOND */
#include <glib-unix.h>
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

static struct source {
    shmslot_reader *reader;
    unsigned long got;
} sources[2];
static unsigned long ticks;
static int left = 2;

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
    struct source *source = data;
    shmslot_sample sample;
    int code;
    (void)fd;
    (void)condition;
    while ((code = shmslot_slot_read(source->reader, &sample)) == 0) {
        source->got++;
        must(shmslot_slot_mark(source->reader, &sample));
    }
    if (code == SHMSLOT_E_AGAIN) return G_SOURCE_CONTINUE;
    if (code != SHMSLOT_E_NO_WRITERS) must(code);
    left--;
    return G_SOURCE_REMOVE;
}

static gboolean on_tick(gpointer loop)
{
    ticks++;
    if (left > 0) return G_SOURCE_CONTINUE;
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

int main(int count, char **arguments)
{
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    shmslot_segment *segments[2];
    int i, fd;
    if (count != 3) return 2;
    for (i = 0; i < 2; i++) {
        must(shmslot_segment_attach(arguments[1 + i], NULL, &segments[i], NULL));
        must(shmslot_reader_join(segments[i], 0, &sources[i].reader, NULL));
        must(shmslot_reader_end_waits(sources[i].reader, SHMSLOT_END_NO_WRITERS));
        must(shmslot_reader_fd(sources[i].reader, 0, &fd, NULL));
        g_unix_fd_add(fd, G_IO_IN, on_readable, &sources[i]);
    }
    g_timeout_add(1, on_tick, loop);
    g_main_loop_run(loop);
    g_main_loop_unref(loop);
    printf("%lu %lu\n", sources[0].got, sources[1].got);
    for (i = 0; i < 2; i++) {
        shmslot_reader_leave(sources[i].reader);
        shmslot_segment_close(segments[i]);
    }
    return ticks > 0 ? 0 : 1;
}
