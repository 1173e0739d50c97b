/* The header needs no other include before it, and every struct, constant and initialiser in it
 * compiles. */
#include <shmslot.h>

static const shmslot_options options = SHMSLOT_OPTIONS_INIT;
static const int codes[] = {SHMSLOT_OK, SHMSLOT_E_INVALID, SHMSLOT_E_LOAN_LIMIT};
static const uint32_t flags = SHMSLOT_FLAG_SINGLE_WRITER | SHMSLOT_FLAG_TIMESTAMPS | SHMSLOT_FLAG_PREFAULT | SHMSLOT_FLAG_HUGE_PAGES |
                              SHMSLOT_FLAG_ANY_OWNER | SHMSLOT_FLAG_OBSERVER;

/* The sizes are part of the ABI. */
typedef char options_do_not_shrink[sizeof(shmslot_options) >= 80 + sizeof(void *) ? 1 : -1];
typedef char error_has_its_size[sizeof(shmslot_error) == 544 ? 1 : -1];
typedef char loan_has_its_size[sizeof(shmslot_loan) == 2 * sizeof(void *) + 24 ? 1 : -1];
typedef char codes_are_negative[SHMSLOT_E_INVALID == -1 && SHMSLOT_E_LOAN_LIMIT == -32 ? 1 : -1];
typedef char version_is_a_constant[SHMSLOT_VERSION > 0 ? 1 : -1];

int main(void)
{
    return options.struct_size == sizeof options && options.type_name == 0 && codes[0] == 0 && flags == 63 ? 0 : 1;
}
