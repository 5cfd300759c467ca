/* kist-oci's front: takes the ordinary case and hands over everything else, unchanged, to Python.
 *
 * An engine calls start, state, kill and delete for each container, and Python's coming up is all that they cost. Here
 * they are a few system calls, for a container whose ROOT/ID/ordinary names the verb: whoever made it (Python) has decided
 * that nothing else is to be done. Whatever is not as expected (an option, a state that forbids the verb, a damaged file, an
 * error) is not judged here: Python gets the same command line, and its words are the only ones that there are.
 *
 * So a verb returns 1 when it is done, and 0 when Python is to do it: before it has changed anything, or where Python goes
 * on from what was done. Memory is static, sizes are fixed, what is longer is handed over. */
#include "front.h"

#define ROOM (1 << 16)
#define RUN_ROOT "/run/kist-oci"

struct container {
    int root, directory;    /* ROOT, ROOT/ID */
    struct ordinary ordinary;
    int pid, pidfd;         /* of the first process; pidfd -1: it has ended */
    int waits;              /* for `start` */
    char text[ROOM];
};

static struct container container;

static long read_file(int dir, const char *name, char *to, ulong room, struct statx *st) {
    int fd = (int)open_at(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) return fd;
    long n = st ? sys(statx, fd, "", AT_EMPTY_PATH, STATX_MTIME | STATX_TYPE, st) : 0;
    if (n >= 0) n = sys(read, fd, to, room);
    shut(fd);
    return n == (long)room ? -EFBIG : n;
}

static long clock_ns(int which) {
    struct __kernel_timespec t = {0, 0};
    sys(clock_gettime, which, &t);
    return (long)t.tv_sec * 1000000000L + (long)t.tv_nsec;
}

/* Whether the process that has this number now runs, and was there before the file that names it was written. */
static int is_alive(int pid, const struct statx *written) {
    char name[32] = "/proc/", text[1024];
    ulong ticks, n = 6 + decimal(name + 6, (ulong)pid);
    memcpy(name + n, "/stat", 6);
    long size = read_file(AT_FDCWD, name, text, sizeof text, 0);
    if (size <= 0 || !read_start(text, (ulong)size, &ticks)) return 0;
    long booted_ns = clock_ns(0 /* CLOCK_REALTIME */) - clock_ns(7 /* CLOCK_BOOTTIME */);
    long written_ns = (long)written->stx_mtime.tv_sec * 1000000000L + written->stx_mtime.tv_nsec;
    return booted_ns + (long)ticks * 10000000L < written_ns + 1000000000L; /* a tick is 10 ms: USER_HZ */
}

static int is_frozen(const char *freezer) {
    char text[16];
    long n = *freezer ? read_file(AT_FDCWD, freezer, text, sizeof text, 0) : 0;
    return n > 0 && (text[0] == 'F' || text[0] == '1');
}

/* Find the first process, by a handle that stays with it. Returns 0 where no process was ever there. */
static int find_process(struct container *c) {
    char text[64];
    struct statx written, fifo;
    long n = read_file(c->directory, "state.json", text, sizeof text, &written);
    c->pid = n > 0 ? read_pid(text, (ulong)n) : 0;
    c->pidfd = -1;
    if (!c->pid) return 0;
    c->pidfd = (int)sys(pidfd_open, c->pid, 0);
    if (c->pidfd < 0 && c->pidfd != -ESRCH) return 0;
    if (c->pidfd >= 0 && !is_alive(c->pid, &written)) {
        shut(c->pidfd);
        c->pidfd = -1;
    }
    n = sys(statx, c->directory, "exec.fifo", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &fifo);
    c->waits = n == 0;
    return n == 0 || n == -ENOENT;
}

static int open_container(struct container *c, const struct call *call) {
    c->root = (int)open_at(AT_FDCWD, call->root, O_PATH | O_DIRECTORY, 0);
    c->directory = c->root < 0 ? c->root : (int)open_at(c->root, call->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (c->directory < 0) return 0;
    long n = read_file(c->directory, "ordinary", c->text, sizeof c->text, 0);
    return n > 0 && read_ordinary(&c->ordinary, c->text, (ulong)n) && takes(&c->ordinary, call->verb) && find_process(c);
}

static int start_(struct container *c) {
    if (c->pidfd < 0 || !c->waits) return 0;
    int fd = (int)open_at(c->directory, "exec.fifo", O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0);
    if (fd < 0) return 0;
    long n = sys(write, fd, "s", 1);
    shut(fd);
    return n == 1 && sys(unlinkat, c->directory, "exec.fifo", 0) == 0;
}

static ulong append(char *to, ulong at, const char *text) {
    for (; *text && at < 2 * ROOM; text++) to[at++] = *text;
    return at;
}

static int state(struct container *c) {
    static char text[2 * ROOM];
    char digits[24];
    if (c->pidfd >= 0 && is_frozen(c->ordinary.freezer)) return 0;
    decimal(digits, c->pidfd < 0 ? 0 : (ulong)c->pid);
    ulong n = append(text, 0, c->ordinary.state[0]);
    n = append(text, n, digits);
    n = append(text, n, c->ordinary.state[1]);
    n = append(text, n, c->pidfd < 0 ? "stopped" : c->waits ? "created" : "running");
    n = append(text, n, c->ordinary.state[2]);
    return n < 2 * ROOM && sys(write, 1, text, n) == (long)n;
}

/* A namespace's first process gets no signal that it does not catch: pid_namespaces(7). A shell that was started just now
 * may be about to set its trap, and nobody would tell the caller that the signal was lost: so it is given the time, up to
 * a quarter of a second, until it catches, blocks or ignores the signal and waits for something. `start` was when
 * exec.fifo was removed. */
static void await_heed(struct container *c, int signal) {
    char name[32] = "/proc/", text[4096];
    struct statx started;
    memcpy(name + 6 + decimal(name + 6, (ulong)c->pid), "/status", 8);
    if (sys(statx, c->directory, "", AT_EMPTY_PATH, STATX_MTIME, &started) < 0) return;
    long since_ns = (long)started.stx_mtime.tv_sec * 1000000000L + started.stx_mtime.tv_nsec;
    for (uint naps = 0; naps < 250; naps++) {
        long n = read_file(AT_FDCWD, name, text, sizeof text - 1, 0);
        if (n <= 0 || clock_ns(0 /* CLOCK_REALTIME */) - since_ns > 250000000L) return;
        text[n] = 0;
        if (read_heeds(text, signal)) return;
        nap_ms(1);
    }
}

static int kill_(struct container *c, int signal) {
    if (c->pidfd < 0 || is_frozen(c->ordinary.freezer)) return 0;
    if (signal && signal != SIGKILL) await_heed(c, signal);
    return sys(pidfd_send_signal, c->pidfd, signal, 0, 0) == 0;
}

static const char *const FILES[] = {"exec.fifo", "config.json", "state.json", "ordinary", "record"};
struct entry { ulong inode, offset; unsigned short size; unsigned char type; char name[]; };

/* Whether the directory holds nothing but what is removed here. */
static int holds_only_files(int directory) {
    char entries[2048] __attribute__((aligned(8)));
    for (long n; (n = sys(getdents64, directory, entries, sizeof entries)) != 0;) {
        if (n < 0) return 0;
        for (long at = 0; at < n; at += ((struct entry *)(entries + at))->size) {
            const char *name = ((struct entry *)(entries + at))->name;
            int known = same(name, ".") || same(name, "..");
            for (uint i = 0; i < sizeof FILES / sizeof *FILES; i++) known |= same(name, FILES[i]);
            if (!known) return 0;
        }
    }
    return 1;
}

static int end_process(struct container *c) {
    struct pollfd poll = {c->pidfd, POLLIN, 0};
    struct __kernel_timespec limit = {10, 0};
    if (is_frozen(c->ordinary.freezer)) return 0;
    long r = sys(pidfd_send_signal, c->pidfd, SIGKILL, 0, 0);
    return r == -ESRCH || (r == 0 && sys(ppoll, &poll, 1, &limit, 0, 0) == 1);
}

/* Each of the hierarchies' directories. Nothing tells when one has become empty. */
static int remove_cgroups(const struct ordinary *o) {
    uint naps = 0;
    for (uint i = 0; i < o->cgroup_count;) {
        long r = sys(unlinkat, AT_FDCWD, o->cgroups[i], AT_REMOVEDIR);
        if (r == 0 || r == -ENOENT) i++;
        else if (r != -EBUSY || ++naps > 10) return 0;
        else nap_ms(1);
    }
    return 1;
}

static int delete(struct container *c, const struct call *call) {
    if (c->pidfd >= 0 && !c->waits && !call->force) return 0;
    if (!holds_only_files(c->directory)) return 0;
    if (c->pidfd >= 0 && !end_process(c)) return 0;
    if (!remove_cgroups(&c->ordinary)) return 0;
    for (uint i = 0; i < sizeof FILES / sizeof *FILES; i++) {
        long r = sys(unlinkat, c->directory, FILES[i], 0);
        if (r != 0 && r != -ENOENT) return 0;
    }
    return sys(unlinkat, c->root, call->id, AT_REMOVEDIR) == 0;
}

/* Where containers are when the command line does not say: as messages.default_root. */
static const char *default_root(char **environment) {
    static char root[4096];
    const char *base = "";
    for (; *environment; environment++)
        if (starts_with(*environment, "XDG_RUNTIME_DIR=")) base = *environment + 16;
    if (sys(geteuid) == 0 && !starts_with(base, "/run/user/")) return RUN_ROOT;
    ulong n = length(base);
    if (*base != '/' || n > sizeof root - sizeof "/kist-oci") return 0;
    memcpy(root, base, n);
    memcpy(root + n, "/kist-oci", sizeof "/kist-oci");
    return root;
}

static int is_set(char **environment, const char *name) {
    for (; *environment; environment++)
        if (starts_with(*environment, name)) return 1;
    return 0;
}

static int take(char **words, char **environment) {
    struct call call;
    if (!read_call(&call, words)) return 0;
    if (!call.root) call.root = default_root(environment);
    if (!call.root || !open_container(&container, &call)) return 0;
    if (call.verb == START) return !is_set(environment, "NOTIFY_SOCKET=") && start_(&container);
    if (call.verb == STATE) return state(&container);
    if (call.verb == KILL) return kill_(&container, call.signal);
    return delete(&container, &call);
}

__attribute__((noreturn, used)) void start(ulong *stack) {
    ulong argc = *stack;
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
    if (argc > 1 && take(argv + 1, environment)) sys(exit_group, 0);
    hand_over("kist-oci-python", argc, argv, environment);
}
