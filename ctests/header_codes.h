/* The codes that the headers list for a call, read from the comments in include/ themselves,
 * so that the two cannot drift apart. A list may refer to that of another call by its name. */
#ifndef SHMSLOT_CTESTS_HEADER_CODES_H
#define SHMSLOT_CTESTS_HEADER_CODES_H

#include "check.h"

#include <ctype.h>

/* Code n is bit n, as a positive number. */
typedef uint64_t code_set;

static inline code_set code_bit(int code)
{
    CHECK(code < 0 && code > -64);
    return UINT64_C(1) << -code;
}

enum { HEADERS_MOST = 1 << 20 };

/* Puts the text of a header after the first `size` bytes of `text`; how many there are then. */
static size_t append_header(char *text, size_t size, const char *name)
{
    char path[1024];
    const char *here = __FILE__, *slash = strrchr(here, '/');
    size_t got;
    FILE *file;
    snprintf(path, sizeof path, "%.*s/../include/%s", (int)(slash == NULL ? 1 : slash - here),
             slash == NULL ? "." : here, name);
    file = fopen(path, "re");
    if (file == NULL) fprintf(stderr, "%s: %s\n", path, strerror(errno));
    CHECK(file != NULL);
    while ((got = fread(text + size, 1, HEADERS_MOST - 1 - size, file)) > 0) size += got;
    CHECK(feof(file) && fclose(file) == 0);
    text[size] = '\0';
    return size;
}

/* All headers, one after the other. */
static const char *header_text(void)
{
    static char *text;
    size_t size;
    if (text != NULL) return text;
    text = malloc(HEADERS_MOST);
    CHECK(text != NULL);
    size = append_header(text, 0, "shmslot.h");
    size = append_header(text, size, "shmslot_events.h");
    size = append_header(text, size, "shmslot_reference.h");
    append_header(text, size, "shmslot_pool.h");
    return text;
}

/* The number of SHMSLOT_E_`name`, or 0 if there is no such code. */
static inline int code_of(const char *name, size_t length)
{
    char constant[64];
    const char *found;
    if (length + 16 > sizeof constant) return 0;
    snprintf(constant, sizeof constant, "    SHMSLOT_E_%.*s = ", (int)length, name);
    found = strstr(header_text(), constant);
    return found == NULL ? 0 : atoi(found + strlen(constant));
}

/* The lines that begin with "///" right above `at`, in one. */
static inline void comment_above(const char *at, char *buffer, size_t size)
{
    const char *text = header_text(), *end, *line;
    size_t used = 0;
    while (at > text && at[-1] != '\n') at--;
    end = at;
    for (line = at; line > text;) {
        const char *before = line - 1;
        while (before > text && before[-1] != '\n') before--;
        if (strncmp(before, "///", 3) != 0) break;
        line = before;
    }
    while (line < end) {
        const char *next = strchr(line, '\n') + 1;
        size_t length = (size_t)(next - line) - 3;
        CHECK(used + length < size);
        memcpy(buffer + used, line + 3, length);
        used += length;
        line = next;
    }
    buffer[used] = '\0';
}

static inline code_set codes_of_call(const char *function, int depth);

/* All codes in a text, and those of the calls that it names. */
static inline code_set codes_in(const char *text, int depth)
{
    code_set codes = 0;
    while (*text != '\0') {
        size_t length = 0;
        while (isalnum((unsigned char)text[length]) || text[length] == '_') length++;
        if (length == 0) {
            text++;
            continue;
        }
        if (strncmp(text, "shmslot_", 8) == 0 && length < 64) {
            char function[64];
            snprintf(function, sizeof function, "%.*s", (int)length, text);
            codes |= codes_of_call(function, depth + 1);
        } else {
            int code = code_of(text, length);
            if (code != 0) codes |= code_bit(code);
        }
        text += length;
    }
    return codes;
}

static inline const char *first_of(const char *one, const char *other)
{
    return one == NULL || (other != NULL && other < one) ? other : one;
}

/* What a call may return besides success, PANIC and FORKED; nothing for a name that is no call. */
static inline code_set codes_of_call(const char *function, int depth)
{
    char pattern[80], comment[8192];
    const char *at, *list;
    code_set codes = 0;
    if (depth > 4) return 0; /* two that name each other */
    snprintf(pattern, sizeof pattern, "int %s(", function);
    at = strstr(header_text(), pattern);
    if (at == NULL) return 0;
    comment_above(at, comment, sizeof comment);
    list = first_of(strstr(comment, "rrors"), strstr(comment, "Otherwise as"));
    if (strstr(comment, "rrors as there") != NULL) list = comment;
    if (list != NULL) codes = codes_in(list, depth);
    if (strncmp(function, "shmslot_ref_", 12) == 0) {
        /* What holds for all of them is at their struct. */
        at = strstr(header_text(), "} shmslot_ref;");
        CHECK(at != NULL);
        while (strncmp(at, "typedef struct", 14) != 0) at--;
        comment_above(at, comment, sizeof comment);
        list = strstr(comment, "may fail");
        CHECK(list != NULL);
        codes |= codes_in(list, depth);
    }
    return codes;
}

#endif
