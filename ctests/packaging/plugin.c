/* A shared library of another project, with the static library inside. It exports plugin_run and
 * nothing else. */
#define main plugin_run
int main(void);
#include "consumer.c"
