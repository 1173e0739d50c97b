/* The headers are C++ too: they have C linkage, and their initialisers and types need no cast. */
#include <shmslot_events.h>
#include <shmslot_pool.h>
#include <shmslot_reference.h>

static const shmslot_options options = SHMSLOT_OPTIONS_INIT;
static const shmslot_attach_options attach_options = SHMSLOT_ATTACH_OPTIONS_INIT;
static const shmslot_registry_options registry_options = SHMSLOT_REGISTRY_OPTIONS_INIT;

int main()
{
    shmslot_segment *segment = nullptr;
    shmslot_error detail;
    detail.code = 0;
    if (options.struct_size != sizeof options ||
        attach_options.struct_size != sizeof attach_options ||
        registry_options.struct_size != sizeof registry_options)
        return 1;
    if (shmslot_version() != SHMSLOT_VERSION) return 2;
    if (shmslot_segment_attach("a/b", &attach_options, &segment, &detail) != SHMSLOT_E_BAD_NAME)
        return 3;
    if (detail.code != SHMSLOT_E_BAD_NAME || segment != nullptr) return 4;
    return 0;
}
