/* The headers may be included twice, in any order, and from two translation units of one program. */
#include <shmslot_events.h>
#include <shmslot_pool.h>
#include <shmslot.h>
#include <shmslot_reference.h>
#include <shmslot_pool.h>

uint32_t slots_of_b(void);

int main(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    return options.slot_count == slots_of_b() ? 0 : 1;
}
