/* What a program of another project needs at least: one sample, written, read in place and marked.
 * C99 and C++11. */
#include <shmslot.h>

#include <stdio.h>
#include <string.h>

#if SHMSLOT_VERSION !=                                                                             \
    SHMSLOT_VERSION_MAJOR * 65536 + SHMSLOT_VERSION_MINOR * 256 + SHMSLOT_VERSION_PATCH
#error "the version of the header is not what its parts make"
#endif

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

int main(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    shmslot_segment *segment = NULL;
    shmslot_writer *writer = NULL;
    shmslot_reader *reader = NULL;
    shmslot_sample sample;
    shmslot_error error;
    uint64_t sequence = 0;
    int code;

    if (shmslot_version() != SHMSLOT_VERSION)
        return fail("version", "the library is not the one of this header");

    code = shmslot_segment_create_anonymous(&options, &segment, &error);
    if (code < 0)
        return fail("create", error.text);
    code = shmslot_reader_join(segment, 0, &reader, &error);
    if (code < 0)
        return fail("join", error.text);
    code = shmslot_writer_open(segment, &writer, &error);
    if (code < 0)
        return fail("open", error.text);

    code = shmslot_slot_write(writer, "sample", 6, 0, &sequence);
    if (code < 0)
        return fail("write", shmslot_strerror(code));
    code = shmslot_wait(reader, 0);
    if (code < 0)
        return fail("wait", shmslot_strerror(code));
    code = shmslot_slot_read(reader, &sample);
    if (code < 0)
        return fail("read", shmslot_strerror(code));
    if (sample.len != 6 || memcmp(sample.data, "sample", 6) != 0 || sample.sequence != sequence)
        return fail("read", "another sample than was written");
    code = shmslot_slot_mark(reader, &sample);
    if (code < 0)
        return fail("mark", shmslot_strerror(code));

    shmslot_writer_close(writer);
    shmslot_reader_leave(reader);
    shmslot_segment_close(segment);
    return 0;
}
