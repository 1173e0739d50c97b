/* Loads the plugins that are named, runs each, and unloads it: plugin_host PLUGIN.so... */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    int i;

    for (i = 1; i < argc; i++) {
        int (*run)(void);
        void *plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        void *symbol = plugin ? dlsym(plugin, "plugin_run") : NULL;

        if (!symbol) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        /* C has no cast from an object's pointer to a function's */
        memcpy(&run, &symbol, sizeof(run));
        if (run() != 0)
            return 1;
        dlclose(plugin);
    }
    return 0;
}
