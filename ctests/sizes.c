/* Odd geometries work like even ones: each passes more than three laps with two readers. */
#include "samples.h"

static void check_size(uint32_t slots, uint64_t capacity, uint32_t policy, uint32_t flags)
{
    shmslot_options options = options_of(slots, capacity);
    shmslot_segment *segment;
    shmslot_writer *writer;
    shmslot_reader *readers[2];
    uint64_t written = 0, seen[2] = {0, 0}, i;
    unsigned lap;
    int r;

    options.policy = policy;
    options.flags = flags;
    segment = make_anonymous(&options);
    writer = open_writer(segment);
    readers[0] = join(segment, 0);
    readers[1] = join(segment, 0);
    for (lap = 0; lap < 5; lap++) {
        for (i = 0; i < slots; i++) { /* fills every slot */
            uint64_t sequence = 0;
            unsigned char value = (unsigned char)(written + 1);
            CHECK_OK(shmslot_slot_write(writer, &value, 1, AT_ONCE, &sequence));
            CHECK_U64(sequence, ++written);
        }
        if (policy != SHMSLOT_POLICY_DROP_OLDEST) {
            CHECK_CODE(shmslot_slot_write(writer, "x", 1, AT_ONCE, NULL), SHMSLOT_E_NO_FREE_SLOT);
        }
        for (r = 0; r < 2; r++) {
            for (i = 0; i < slots; i++) {
                shmslot_sample sample = hold(readers[r]);
                CHECK_U64(sample.sequence, ++seen[r]);
                CHECK_U64(sample.len, 1);
                CHECK(sample.slot < slots);
                CHECK(*(const unsigned char *)sample.data == (unsigned char)sample.sequence);
                CHECK_OK(shmslot_slot_mark(readers[r], &sample));
            }
            check_nothing_to_read(readers[r]);
            CHECK_U64(lost(readers[r]), 0);
        }
    }
    for (r = 0; r < 2; r++) shmslot_reader_leave(readers[r]);
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
}

int main(void)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 63, 64, 65, 1000};
    static const uint32_t policies[] = {SHMSLOT_POLICY_FAIL, SHMSLOT_POLICY_BLOCK,
                                        SHMSLOT_POLICY_DROP_OLDEST};
    size_t c, p;
    check_begin();
    for (c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (p = 0; p < sizeof policies / sizeof policies[0]; p++) {
            check_size(counts[c], 1, policies[p], 0);
            check_size(counts[c], 1, policies[p], SHMSLOT_FLAG_SINGLE_WRITER);
            check_size(counts[c], 65, policies[p], 0);
        }
    }
    check_size(4, UINT64_C(8) << 20, SHMSLOT_POLICY_FAIL, 0);
    return 0;
}
