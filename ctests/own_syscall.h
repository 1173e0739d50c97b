/* The library makes the calls that matter to event loops by syscall(). A program that includes this
 * has its own, which calls the program's functions before and after each. */
#ifndef SHMSLOT_CTESTS_OWN_SYSCALL_H
#define SHMSLOT_CTESTS_OWN_SYSCALL_H

#include "check.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>

static void before_call(long number, long first_argument);
static void after_call(void);

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long arguments[6], result;
    va_list list;
    int i;
    va_start(list, number);
    for (i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    if (real == NULL) {
        void *found = dlsym(RTLD_NEXT, "syscall");
        memcpy(&real, &found, sizeof real);
    }
    before_call(number, arguments[0]);
    result = real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                  arguments[5]);
    i = errno;
    after_call();
    errno = i;
    return result;
}

#endif
