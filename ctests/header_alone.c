/* The header needs nothing before it, and every struct, constant and initialiser in it compiles. Its
 * structs have tags, so that others can declare them without the header. */
struct shmslot_segment;
struct shmslot_sample;
static unsigned long long length_of(const struct shmslot_sample *sample);

#include <shmslot.h>

static unsigned long long length_of(const shmslot_sample *sample)
{
    return sample->len;
}

static const shmslot_options options = SHMSLOT_OPTIONS_INIT;
static const int codes[] = {SHMSLOT_OK, SHMSLOT_E_INVALID, SHMSLOT_E_LOAN_LIMIT};
static const uint32_t flags = SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS |
                              SHMSLOT_FLAG_PREFAULT | SHMSLOT_FLAG_HUGE_PAGES |
                              SHMSLOT_FLAG_ANY_OWNER | SHMSLOT_FLAG_OBSERVER;

/* The sizes are part of the ABI. */
typedef char options_do_not_shrink[sizeof(shmslot_options) >= 80 + sizeof(void *) ? 1 : -1];
typedef char error_has_its_size[sizeof(shmslot_error) == 544 ? 1 : -1];
typedef char loan_has_its_size[sizeof(shmslot_loan) == 2 * sizeof(void *) + 24 ? 1 : -1];
typedef char codes_are_negative[SHMSLOT_E_INVALID == -1 && SHMSLOT_E_LOAN_LIMIT == -32 ? 1 : -1];
typedef char version_is_a_constant[SHMSLOT_VERSION > 0 ? 1 : -1];

int main(void)
{
    struct shmslot_sample sample = {0};
    if (length_of(&sample) != 0) return 1;
    return options.struct_size == sizeof options && options.type_name == 0 && codes[0] == 0 &&
                   flags == 63
               ? 0
               : 1;
}
