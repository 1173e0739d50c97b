/* The plain end of a channel: messages as bytes, with whatever descriptors, also such as no honest
 * end sends. */
#ifndef SHMSLOT_CTESTS_PLAIN_CHANNEL_H
#define SHMSLOT_CTESTS_PLAIN_CHANNEL_H

#include "check.h"

#include <sys/mman.h>
#include <sys/uio.h>

static inline int sealed_file(size_t size)
{
    int fd = memfd_create("ctest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    CHECK(ftruncate(fd, (off_t)size) == 0);
    CHECK(size == 0 || pwrite(fd, "text", 4, 0) == 4);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    return fd;
}

static inline void put_number(unsigned char *target, uint64_t number, int bytes)
{
    int i;
    for (i = 0; i < bytes; i++) target[i] = (unsigned char)(number >> (8 * i));
}

static inline void attach_message(unsigned char *message, uint32_t map_id, uint32_t generation,
                                  uint64_t length)
{
    put_number(message, map_id, 4);
    put_number(message + 4, generation, 4);
    put_number(message + 8, length, 8);
}

/* Sends bytes with any number of descriptors; 0, or errno. */
static inline int send_raw(int socket, const void *bytes, size_t size, const int *fds, size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * 253)];
    } control;
    struct iovec part;
    struct msghdr message;
    part.iov_base = (void *)bytes;
    part.iov_len = size;
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size ? 0 : errno;
}

#endif
