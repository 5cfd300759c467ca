/* A program of the host's that serves the container's network, pasta(1): beside the supervisor, and never longer.
 *
 * It is in a PID namespace of its own, whose first process is ours and ends when the supervisor's end of a socket does: what
 * the program does with signals, sessions or credentials is no matter. It joins the container's user namespace first,
 * which gives it no powers over the host that the caller hasn't. */
#include "launcher.h"

struct helper helper;

static long make(ulong flags, int *pidfd) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = flags | (pidfd ? CLONE_PIDFD : 0);
    args.pidfd = (ulong)pidfd;
    args.exit_signal = SIGCHLD;
    return sys(clone3, &args, sizeof args);
}

/* /proc/OUR NUMBER OUTSIDE/fd/N: it closes what it inherits. */
static long path_of(int fd, char path[64]) {
    memcpy(path, "/proc/", 6);
    long n = sys(readlinkat, AT_FDCWD, "/proc/self", path + 6, 20);
    if (n < 0) return n;
    memcpy(path + 6 + n, "/fd/", 4);
    decimal(path + 10 + n, (ulong)fd);
    return 0;
}

/* What it says first, until it or the supervisor ends. It is heard out: of a user who has many, a pipe holds 4 KiB, less
 * than its usage. */
static void listen(int from, int pidfd, int control, char *to, ulong room) {
    struct pollfd fds[] = {{from, POLLIN, 0}, {pidfd, POLLIN, 0}, {control, 0, 0}};
    char rest[512];
    ulong had = 0;
    for (int over = 0; !over;) {
        sys(ppoll, fds, 3, 0, 0, 8);
        if (fds[2].revents) leave(0);
        over = fds[1].revents != 0;
        for (long n; (n = sys(read, from, rest, sizeof rest)) > 0;)
            for (long i = 0; i < n && had < room; i++) to[had++] = rest[i];
    }
}

/* PID 1: say how it began, with its own words, and then wait for the supervisor's end. */
__attribute__((noreturn)) static void keep(char **argv, char **envp, char *path, int control, int namespace) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2];
    struct { int status; char words[104]; } said;
    int words[2], status = 127 << 8;
    memset(none, 0, sizeof none);
    memset(&said, 0, sizeof said);
    sys(capset, &header, none); /* so that it may look at our files: ptrace(2) */
    sys(prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (path_of(namespace, path) == 0 && sys(pipe2, words, O_CLOEXEC) == 0) {
        int pidfd = -1;
        long pid = make(0, &pidfd);
        if (pid == 0) {
            sys(dup3, words[1], 2, 0);
            exec_clean(argv, envp);
            leave(127);
        }
        sys(fcntl, words[0], F_SETFL, O_NONBLOCK);
        listen(words[0], pidfd, control, said.words, sizeof said.words - 1);
        sys(wait4, pid, &status, 0, 0);
        shut(pidfd);
        shut(words[0]);
        shut(words[1]);
    }
    said.status = status;
    sys(sendto, control, &said, sizeof said, MSG_NOSIGNAL, 0, 0);
    struct pollfd over = {control, 0, 0};
    sys(ppoll, &over, 1, 0, 0, 8);
    leave(0);
}

/* Takes the namespaces that send_namespaces hands out. */
long beside(struct state *s, const struct step *step) {
    ARGUMENTS(beside);
    static char *argv[260], path[64];
    struct { int status; char words[104]; } said = {-1, {0}};
    int pair[2], user, namespace;
    long n = list_strings(&a->argv, argv, 256);
    if (n < 0) return n;
    argv[n] = "--netns";
    argv[n + 1] = path;
    argv[n + 2] = 0;
    user = (int)(n = receive_fd(s));
    if (n >= 0) namespace = (int)(n = receive_fd(s));
    if (n >= 0) n = sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000, 0, pair);
    if (n < 0) return n;
    n = helper.pid = (int)make(0, &helper.pidfd);
    if (n == 0) {
        enum { CONTROL = 3, USER, NET };
        int fds[] = {pair[1], user, namespace};
        sys(prctl, PR_SET_NAME, "kist net", 0, 0, 0);
        keep_only(fds, 3);
        n = sys(setns, USER, CLONE_NEWUSER);
        if (n == 0 || n == -EINVAL /* it is ours */) n = make(CLONE_NEWPID, 0);
        if (n == 0) keep(argv, s->environment, path, CONTROL, NET);
        sys(close_range, 0, ~0U, 0);
        if (n > 0) sys(wait4, n, 0, 0, 0);
        leave(n < 0);
    }
    shut(user);
    shut(namespace);
    shut(pair[1]);
    helper.control = pair[0];
    if (n < 0) return n;
    n = sys(recvfrom, helper.control, &said, sizeof said, 0, 0, 0);
    if (n == sizeof said && said.status == 0) return 0;
    for (uint i = 0; i < sizeof said.words && said.words[i] && said.words[i] != '\n'; i++) s->words[i] = said.words[i];
    return said.status == 127 << 8 ? -ENOEXEC : -ECANCELED;
}

void helper_end(void) {
    if (helper.pid <= 0) return;
    struct pollfd gone = {helper.pidfd, POLLIN, 0};
    struct __kernel_timespec limit = {1, 0};
    shut(helper.control);
    sys(ppoll, &gone, 1, &limit, 0, 8);
    sys(pidfd_send_signal, helper.pidfd, SIGKILL, 0, 0);
    sys(wait4, helper.pid, 0, 0, 0);
    shut(helper.pidfd);
    helper.pid = 0;
}

/* Inside: what it is in. */
long send_namespaces(struct state *s) {
    static const char *const paths[] = {"/proc/thread-self/ns/user", "/proc/thread-self/ns/net"};
    long r = 0;
    for (int i = 0; r == 0 && i < 2; i++) {
        int fd = (int)open_at(AT_FDCWD, paths[i], O_RDONLY, 0);
        r = fd < 0 ? fd : send_fd(s->peer, fd);
        shut(fd);
    }
    return r;
}
