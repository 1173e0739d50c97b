/* A process dies inside a call, at any point, while a child lives on that another of its threads
 * forked there, with all descriptors and locks. Nobody waits for such an heir: the next process
 * completes what the call had begun. */
/* not under address, thread, memcheck: it would single-step through the tool, too */
#include "samples.h"
#include "single_steps.h"

static char directory[128], path[256];
static shmslot_segment *witness; /* attached all the time, or NULL */
static child dead; /* dies before the call, and leaves something to recover */
static int link_to_heir[2];

/* By the bare system call, because the C library's fork waits for locks that the stopped thread may
 * have. */
static void *fork_when_told(void *unused)
{
    char byte;
    (void)unused;
    receive_bytes(link_to_heir[1], &byte, 1);
    if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0) {
        (void)!write(link_to_heir[1], "", 1);
        (void)!read(link_to_heir[1], &byte, 1);
        _exit(0);
    }
    for (;;) (void)pause();
    return NULL;
}

static void start_forker(void)
{
    (void)close(link_to_heir[0]);
    (void)start_thread(fork_when_told, NULL);
}

/* ---- what is done ---- */

static shmslot_segment *attached; /* of the victim */

static int take_and_stay(int link, void *unused)
{
    shmslot_segment *segment = attach(path);
    shmslot_writer *writer = open_writer(segment);
    shmslot_loan loan;
    (void)unused;
    (void)join(segment, 0);
    CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loan));
    CHECK_U64(put(writer, 1), 1);
    say(link);
    hear(link); /* never comes */
    return 0;
}

static void make_room_for(uint32_t participants)
{
    shmslot_options options = options_of(4, 8);
    options.max_participants = participants;
    witness = make_named(path, &options);
    if (participants == 1) {
        shmslot_segment_close(witness);
        witness = NULL;
    }
    dead = start_child(take_and_stay, NULL);
    hear(dead.link);
}

static void make_room_for_all(void)
{
    make_room_for(8);
}

static void make_room_for_one(void)
{
    make_room_for(1);
}

static void prepare_to_recover(void *unused)
{
    (void)unused;
    start_forker();
    attached = attach(path);
}

static void recover(void *unused)
{
    (void)unused;
    CHECK_CODE(shmslot_segment_recover(attached, NULL), 1);
}

static void prepare_nothing(void *unused)
{
    (void)unused;
    start_forker();
}

static void attach_to_it(void *unused)
{
    shmslot_segment *segment = NULL;
    (void)unused;
    CHECK_OK(shmslot_segment_attach(path, NULL, &segment, NULL));
}

static void create_it(void *unused)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = NULL;
    (void)unused;
    options.if_orphaned = SHMSLOT_ORPHANED_REPLACE;
    CHECK_OK(shmslot_segment_create(path, &options, &segment, NULL));
}

static void unlink_it(void *unused)
{
    (void)unused;
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static void leave_another_version(void)
{
    int fd;
    make_room_for_one();
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, "\x7f", 1, 8) == 1);
    CHECK(close(fd) == 0);
}

/* ---- what must be possible then ---- */

static void all_is_free(shmslot_segment *segment)
{
    shmslot_writer *writer;
    shmslot_loan loans[4];
    int i;
    CHECK_U64(info_of(segment).participants, 1);
    CHECK_U64(info_of(segment).readers, 0);
    writer = open_writer(segment);
    for (i = 0; i < 4; i++) CHECK_OK(shmslot_slot_reserve(writer, 8, AT_ONCE, &loans[i]));
    shmslot_writer_close(writer);
    shmslot_segment_close(segment);
    CHECK_OK(shmslot_segment_unlink(path, NULL));
}

static void recover_all(void)
{
    CHECK_OK(shmslot_segment_recover(witness, NULL));
    all_is_free(witness);
}

static void attach_alone(void)
{
    all_is_free(attach(path));
}

static void create_anew(void)
{
    shmslot_options options = options_of(4, 8);
    shmslot_segment *segment = NULL;
    options.if_orphaned = SHMSLOT_ORPHANED_REPLACE;
    CHECK_OK(shmslot_segment_create(path, &options, &segment, NULL));
    all_is_free(segment);
}

static const struct operation {
    const char *name;
    void (*begin)(void);
    void (*prepare)(void *unused);
    void (*body)(void *unused);
    int stores; /* points at which bytes of the segment change, besides system calls */
    void (*end)(void);
} operations[] = {
    {"recover", make_room_for_all, prepare_to_recover, recover, 1, recover_all},
    {"attach, all rows taken", make_room_for_one, prepare_nothing, attach_to_it, 0, attach_alone},
    {"create over a dead one", make_room_for_one, prepare_nothing, create_it, 0, create_anew},
    {"create over another version", leave_another_version, prepare_nothing, create_it, 0,
     create_anew},
    {"attach to a dead one", make_room_for_one, prepare_nothing, attach_to_it, 0, create_anew},
    {"unlink", make_room_for_one, prepare_nothing, unlink_it, 0, create_anew},
    {"unlink another version", leave_another_version, prepare_nothing, unlink_it, 0, create_anew},
};

/* False if the call was over before this point. */
static int try_point(const struct operation *operation, int point)
{
    size_t size = 0x2000;
    char *shared = NULL, *before = NULL;
    char byte;
    int at, more = 1, fd;
    pid_t pid;
    operation->begin();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link_to_heir) == 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    shared = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    before = malloc(size);
    CHECK(shared != MAP_FAILED && before != NULL && close(fd) == 0);
    pid = steps_start(operation->prepare, operation->body, NULL, NULL);
    CHECK(kill(dead.pid, SIGKILL) == 0);
    CHECK_U64((uint64_t)end_child(dead), 128 + SIGKILL);
    (void)close(link_to_heir[1]);
    for (at = 0; more && at < point; at++) {
        memcpy(before, shared, size);
        more = operation->stores ? steps_next(pid, shared, before, size) : steps_next_call(pid);
    }
    if (more) {
        say(link_to_heir[0]);
        hear(link_to_heir[0]); /* the heir is there */
    }
    steps_kill(pid);
    if (more) {
        operation->end();
        CHECK(send(link_to_heir[0], "", 1, MSG_DONTWAIT) == 1); /* it is still alive */
        CHECK(recv(link_to_heir[0], &byte, 1, 0) == 0);
    } else {
        operation->end();
    }
    (void)close(link_to_heir[0]);
    CHECK(munmap(shared, size) == 0);
    free(before);
    return more;
}

int main(void)
{
    size_t i;
    check_begin();
    steps_begin();
    own_directory(directory, sizeof directory);
    own_path(path, sizeof path, directory, "segment");
    for (i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        int point = 0;
        while (try_point(&operations[i], point)) point++;
        CHECK(point > 3);
        printf("%-28s %4d points\n", operations[i].name, point);
        fflush(stdout);
    }
    return 0;
}
