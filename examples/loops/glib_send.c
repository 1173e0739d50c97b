/* Sends numbers, and waits for free slots in GLib's main loop, while a timer goes on.
 * Usage: glib_send SEGMENT COUNT */
#include <glib-unix.h>
#include <shmslot_events.h>
#include <stdio.h>
#include <stdlib.h>

static shmslot_writer *writer;
static unsigned long next, last, ticks;

static void must(int code)
{
    if (code >= 0) return;
    fprintf(stderr, "%s\n", shmslot_strerror(code));
    exit(1);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
    (void)fd;
    (void)condition;
    (void)data;
    while (next < last) { /* until no slot is free, which arms it */
        int code = shmslot_slot_write(writer, &next, sizeof next, 0, NULL);
        if (code == SHMSLOT_E_NO_FREE_SLOT) return G_SOURCE_CONTINUE;
        must(code);
        next++;
    }
    return G_SOURCE_REMOVE;
}

static gboolean on_tick(gpointer loop)
{
    ticks++;
    if (next < last) return G_SOURCE_CONTINUE;
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

int main(int count, char **arguments)
{
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    shmslot_segment *segment;
    int fd;
    if (count != 3) return 2;
    last = strtoul(arguments[2], NULL, 10);
    must(shmslot_segment_attach(arguments[1], NULL, &segment, NULL));
    must(shmslot_writer_open(segment, &writer, NULL));
    must(shmslot_writer_fd(writer, 0, &fd, NULL));
    g_unix_fd_add(fd, G_IO_IN, on_readable, NULL);
    g_timeout_add(1, on_tick, loop);
    g_main_loop_run(loop);
    g_main_loop_unref(loop);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    return ticks > 0 ? 0 : 1;
}
