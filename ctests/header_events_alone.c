/* The header of event loops needs nothing before it, and brings shmslot.h with it. */
#include <shmslot_events.h>

static const uint32_t flags[] = {SHMSLOT_FD_MANUAL};

int main(void)
{
    struct shmslot_options segment = SHMSLOT_OPTIONS_INIT;
    if (segment.struct_size != sizeof segment) return 1;
    return flags[0] == 1 ? 0 : 1;
}
