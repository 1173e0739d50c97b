/* The other half of header_twice_a.c. */
#include <shmslot.h>
#include <shmslot_reference.h>
#include <shmslot_pool.h>
#include <shmslot_reference.h>
#include <shmslot_events.h>
#include <shmslot.h>

uint32_t slots_of_b(void);

uint32_t slots_of_b(void)
{
    shmslot_options options = SHMSLOT_OPTIONS_INIT;
    return options.slot_count;
}
