/* The header of channels and pools needs nothing before it, and brings shmslot.h with it. */
#include <shmslot_pool.h>

static const shmslot_registry_options options = SHMSLOT_REGISTRY_OPTIONS_INIT;
static const uint64_t numbers[] = {SHMSLOT_IDLE_NONE, SHMSLOT_FLAG_UNSEALED};

/* The sizes are part of the ABI. */
typedef char options_do_not_shrink[sizeof(shmslot_registry_options) >= 40 ? 1 : -1];
typedef char lease_has_its_size[sizeof(shmslot_lease) == 2 * sizeof(void *) + 40 ? 1 : -1];
typedef char mapped_has_its_size[sizeof(shmslot_mapped) == 2 * sizeof(void *) + 24 ? 1 : -1];

int main(void)
{
    struct shmslot_options segment = SHMSLOT_OPTIONS_INIT;
    if (options.struct_size != sizeof options || segment.struct_size != sizeof segment) return 1;
    return numbers[0] == 1 && numbers[1] == 64 ? 0 : 1;
}
