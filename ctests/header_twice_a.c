/* The header may be included twice, and from two translation units of one program. */
#include <shmslot.h>
#include <shmslot.h>

uint32_t slots_of_b(void);

int main(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    return options.slot_count == slots_of_b() ? 0 : 1;
}
