/* Beside a second library, with a planted defect: shmslot_segment_recover panics. */
#include <shmslot.h>

#include <pthread.h>
#include <stdio.h>

int second_run(void);

static void *calls(void *segment)
{
    shmslot_error error;
    int code = shmslot_segment_recover(segment, &error);

    if (code != SHMSLOT_E_PANIC || error.code != code) {
        fprintf(stderr, "shmslot_segment_recover gave %d\n", code);
        return segment;
    }
    return NULL;
}

int main(void)
{
    shmslot_segment *segment = NULL;
    int i;

    if (shmslot_segment_create_anonymous(NULL, &segment, NULL) < 0)
        return 1;
    for (i = 0; i < 2; i++) {
        pthread_t thread;
        void *failed = NULL;

        if (calls(segment) || second_run() != 0)
            return 1;
        if (pthread_create(&thread, NULL, calls, segment) != 0 ||
            pthread_join(thread, &failed) != 0 || failed)
            return 1;
    }
    shmslot_segment_close(segment);
    return 0;
}
