/* A program with two libraries inside that were written in Rust and do not know of each other. */
#define main run
int main(void);
#include "../consumer.c"
#undef main

int second_run(void);

int main(void)
{
    int i;

    for (i = 0; i < 2; i++) {
        if (run() != 0)
            return 1;
        if (second_run() != 0)
            return fail("second_run", "a panic or a thread-local");
    }
    return 0;
}
