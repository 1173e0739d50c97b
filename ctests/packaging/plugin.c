/* A shared library of somebody else's, with the static library inside. It exports plugin_run and nothing else. */
#define main plugin_run
int main(void);
#include "consumer.c"
