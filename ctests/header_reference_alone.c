/* The header of reference operations needs nothing before it, and brings shmslot.h with it. */
#include <shmslot_reference.h>

/* The sizes are part of the ABI. */
typedef char ref_has_its_size[sizeof(shmslot_ref) == 16 ? 1 : -1];
typedef char header_has_its_size[sizeof(shmslot_ref_header) == 40 ? 1 : -1];

int main(void)
{
    struct shmslot_options segment = SHMSLOT_OPTIONS_INIT;
    return segment.struct_size == sizeof segment ? 0 : 1;
}
