/* The words of a segment, by docs/segment-layout.md and through a separate mapping: only for
 * reading. */
#ifndef SHMSLOT_CTESTS_WORDS_H
#define SHMSLOT_CTESTS_WORDS_H

#include "samples.h"

#include <sys/mman.h>

#define PHASE_COMMITTING 3
#define PHASE_PUBLISHED 1
#define PHASE_PUBLISHING 5

struct words {
    const unsigned char *raw; /* the control part and perhaps more */
    size_t size;
    uint64_t slots, lines, claims, vacancy;
    uint32_t max_readers, max_participants;
};

static inline uint64_t words_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

static inline struct words map_words(const shmslot_segment *segment)
{
    shmslot_info info = info_of(segment);
    struct words words;
    void *raw;
    words.slots = info.slot_count;
    words.lines = words_up(0x1800 + (uint64_t)info.max_participants * 64, 128);
    words.claims = words.lines + words.slots * 64;
    words.vacancy = words_up(words.claims + words.slots * 16, 128);
    words.max_readers = info.max_readers;
    words.max_participants = info.max_participants;
    words.size = (size_t)info.total_size;
    raw = mmap(NULL, words.size, PROT_READ, MAP_SHARED, shmslot_segment_fd(segment), 0);
    CHECK(raw != MAP_FAILED);
    words.raw = raw;
    return words;
}

static inline void unmap_words(struct words *words)
{
    CHECK(munmap((void *)(uintptr_t)words->raw, words->size) == 0);
    words->raw = NULL;
}

static inline uint64_t word_at(const struct words *words, uint64_t offset)
{
    return __atomic_load_n((const uint64_t *)(const void *)(words->raw + offset), __ATOMIC_ACQUIRE);
}

static inline uint64_t tail_of(const struct words *words)
{
    return word_at(words, 0x200);
}

static inline uint64_t entry_of(const struct words *words, uint64_t sequence)
{
    return word_at(words,
                   words->lines + sequence % words->slots * 64 + sequence / words->slots % 2 * 8);
}

/* Whether the sample with this sequence is in the order; its slot then. */
static inline int find_sample(const struct words *words, uint64_t sequence, uint64_t *ret_slot)
{
    uint64_t entry = entry_of(words, sequence);
    *ret_slot = entry & 0xffffff;
    return entry >> 24 == sequence;
}

static inline uint64_t marks_of(const struct words *words, uint64_t slot, unsigned word)
{
    return word_at(words, words->lines + slot * 64 + 16 + word * 8);
}

static inline unsigned byte_of_line(const struct words *words, uint64_t slot, unsigned at)
{
    return (unsigned)(word_at(words, words->lines + slot * 64 + at / 8 * 8) >> at % 8 * 8 & 0xff);
}

/* Whether the segment has receipts in place of its second and third word of marks, as far as this
 * slot shows: a turn is odd, and the tag of a third word becomes odd there after 2^24 samples. */
static inline int has_receipts(const struct words *words, uint64_t slot)
{
    return byte_of_line(words, slot, 39) & 1;
}

/* The held and owed bits that are left in a word of marks, without those for which there are
 * receipts. */
static inline uint64_t bits_left(const struct words *words, uint64_t slot, unsigned word)
{
    uint64_t bits = marks_of(words, slot, word) & 0xffffffff;
    unsigned reader;
    if (!has_receipts(words, slot)) return bits;
    if (word > 0) return 0;
    for (reader = 0; reader < 15; reader++) {
        if (byte_of_line(words, slot, 24 + reader) == byte_of_line(words, slot, 39))
            bits &= ~((uint64_t)1 << (16 + 1 + reader));
    }
    return bits;
}

static inline uint64_t ctl_of(const struct words *words, uint64_t slot)
{
    return word_at(words, words->claims + slot * 16);
}

static inline unsigned phase_of(const struct words *words, uint64_t slot)
{
    return (unsigned)(ctl_of(words, slot) & 15);
}

/* The process of a participant's row. */
static inline pid_t process_of(const struct words *words, uint64_t participant)
{
    return (pid_t)(word_at(words, 0x1800 + participant * 64) >> 32);
}

/* The participant of a slot's loan or commit. */
static inline uint64_t owner_of(const struct words *words, uint64_t slot)
{
    return ctl_of(words, slot) >> 16 & 0xfff;
}

/* Whether the vacancy map says that the slot may be free. */
static inline int is_offered(const struct words *words, uint64_t slot)
{
    return (word_at(words, words->vacancy + slot / 64 * 8) >> slot % 64 & 1) != 0;
}

/* Everything that is needed to see what went wrong. */
static inline void dump_words(const struct words *words)
{
    uint64_t i;
    fprintf(stderr, "tail %" PRIu64 " active %#" PRIx64 " bells %#" PRIx64 " %#x", tail_of(words),
            word_at(words, 0x280), word_at(words, 0x300), (unsigned)word_at(words, 0x308));
    fprintf(stderr, " horizon %" PRIu64 " writer %#x deaths %u\n", word_at(words, 0x380),
            (unsigned)(word_at(words, 0x400) >> 32), (unsigned)word_at(words, 0x408));
    for (i = 0; i < words->max_readers; i++) {
        uint64_t row = 0x800 + i * 64;
        if (word_at(words, row) == 0) continue;
        fprintf(stderr,
                "reader %" PRIu64 ": state %#" PRIx64 " cursor %" PRIu64 " lost %" PRIu64 "\n", i,
                word_at(words, row), word_at(words, row + 8), word_at(words, row + 16));
    }
    for (i = 0; i < words->max_participants; i++) {
        uint64_t row = 0x1800 + i * 64;
        if ((word_at(words, row) & 1) == 0) continue;
        fprintf(stderr, "participant %" PRIu64 ": state %u pid %u writers %u\n", i,
                (unsigned)word_at(words, row), (unsigned)process_of(words, i),
                (unsigned)word_at(words, row + 16));
    }
    for (i = 0; i < words->slots; i++) {
        uint64_t ctl = ctl_of(words, i), line = words->lines + i * 64;
        unsigned entry;
        fprintf(stderr,
                "slot %" PRIu64 ": phase %u owner %u.%u generation %" PRIu64 " sequence %" PRIu64
                " marks",
                i, phase_of(words, i), (unsigned)owner_of(words, i), (unsigned)(ctl >> 4 & 0xfff),
                ctl >> 28, word_at(words, line + 48));
        fprintf(stderr,
                " %#" PRIx64 " %#" PRIx64 " %#" PRIx64 " %#" PRIx64 " extent %#" PRIx64
                " offered %d entries",
                marks_of(words, i, 0), marks_of(words, i, 1), marks_of(words, i, 2),
                marks_of(words, i, 3), word_at(words, line + 56), is_offered(words, i));
        for (entry = 0; entry < 2; entry++) {
            uint64_t seen = word_at(words, line + entry * 8);
            fprintf(stderr, " %" PRIu64 " in %u", seen >> 24, (unsigned)(seen & 0xffffff));
        }
        fputc('\n', stderr);
    }
}

#endif
