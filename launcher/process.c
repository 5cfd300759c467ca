/* Steps that make processes and namespaces, and the words that pass between them. */
#include "launcher.h"

struct credentials { int pid; uint uid, gid; };
struct header { void *name; uint name_size, pad; struct part *parts; ulong part_count; void *control;
                ulong control_size; uint flags, pad2; };
struct part { const void *at; ulong size; };

/* A control message holds either one fd or who sent it. */
struct control { ulong length; int level, type; union { int fd; struct credentials from; }; int pad; };

static long receive(int socket, void *to, ulong room, struct control *control) {
    struct part part = {to, room};
    struct header header = {0, 0, 0, &part, 1, control, sizeof *control, 0, 0};
    return sys(recvmsg, socket, &header, 0x40000000 /* MSG_CMSG_CLOEXEC */);
}

long send_fd(int socket, int fd) {
    uint word = SAYS_GO;
    struct control control = {sizeof control.length + 8 + 4, 1 /* SOL_SOCKET */, 1 /* SCM_RIGHTS */, {fd}, 0};
    struct part part = {&word, 4};
    struct header header = {0, 0, 0, &part, 1, &control, 24, 0, 0};
    long r = sys(sendmsg, socket, &header, MSG_NOSIGNAL);
    return r < 0 ? r : 0;
}

long receive_fd(int socket) {
    uint words[4] = {0};
    struct control control = {0, 0, 0, {-1}, 0};
    long r = receive(socket, words, sizeof words, &control);
    if (r < 0) return r;
    return control.type == 1 && control.length >= 20 ? control.fd : -ECHILD;
}

long hear(struct state *s, uint *words, uint count) {
    uint heard[4] = {0};
    long n = sys(recvfrom, s->peer, heard, sizeof heard, 0, 0, 0);
    if (n < 0) return n;
    if (n == 16 && heard[0] == SAYS_FAILED) {
        s->step = heard[1];
        s->argument = heard[3];
        return -(long)heard[2];
    }
    if (n == 0) return -ECHILD;
    for (uint i = 0; i < count && i < 4; i++) words[i] = heard[i];
    return n;
}

static void default_signals(void) {
    struct { ulong handler, flags, restorer, mask; } standard = {0, 0, 0, 0};
    for (int n = 1; n <= 64; n++) sys(rt_sigaction, n, &standard, 0, 8);
}

/* A child from here on. The new process's own name for itself comes later. */
static void be_child(struct state *s, uint actor, int peer) {
    if (s->actor == ACTOR_HOST) {
        shut(s->orders);
        shut(s->reports);
        shut(s->peer);
    }
    s->actor = actor;
    s->orders = s->reports = s->init_fd = -1;
    s->on_failure = 0;
    s->peer = peer;
    s->undo_count = 0;
    default_signals();
}

static long from_stage(struct state *s, struct clone_args *args) {
    args->flags |= CLONE_PARENT; /* and so the same exit signal as ours */
    args->exit_signal = 0;
    long r = sys(clone3, args, sizeof *args);
    if (r > 0) leave(0);
    if (r < 0) return r;
    be_child(s, ACTOR_INIT, s->peer);
    uint born = SAYS_READY;
    return sys(sendto, s->peer, &born, 4, MSG_NOSIGNAL, 0, 0);
}

static long from_host(struct state *s, uint child, struct clone_args *args) {
    int pair[2], pidfd = -1, staged = child == ACTOR_STAGE;
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000 /* SEQPACKET, CLOEXEC */, 0, pair);
    if (r < 0) return r;
    sys(setsockopt, pair[0], 1 /* SOL_SOCKET */, 16 /* SO_PASSCRED */, &staged, sizeof staged); /* until adopt */
    args->flags |= CLONE_PIDFD;
    args->pidfd = (ulong)&pidfd;
    r = sys(clone3, args, sizeof *args);
    shut(pair[r == 0 ? 0 : 1]);
    if (r == 0) {
        be_child(s, child, pair[1]);
        return 0;
    }
    if (r < 0) {
        shut(pair[0]);
        return r;
    }
    s->peer = pair[0];
    s->init_pid = (int)r;
    s->init_fd = pidfd;
    if (staged) s->stage_pid = (int)r;
    return 0;
}

static long make_process(struct state *s, const struct step *step) {
    ARGUMENTS(clone);
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = a->flags.n;
    args.exit_signal = SIGCHLD;
    if (a->cgroup.n) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (ulong)s->slots[a->cgroup.n];
    }
    long r = s->actor == ACTOR_STAGE ? from_stage(s, &args) : from_host(s, (uint)a->child.n, &args);
    return r < 0 ? r : 0;
}

/* The stage says nothing; its child's first word comes with the child's number, translated by the kernel. */
static long adopt(struct state *s) {
    uint words[4] = {0};
    struct control control;
    memset(&control, 0, sizeof control);
    long n = receive(s->peer, words, sizeof words, &control);
    if (n < 0) return n;
    if (n == 16 && words[0] == SAYS_FAILED) {
        s->step = words[1];
        s->argument = words[3];
        return -(long)words[2];
    }
    if (n != 4 || control.type != 2 /* SCM_CREDENTIALS */ || control.from.pid <= 0) return -ECHILD;
    long r = sys(pidfd_open, control.from.pid, 0);
    if (r < 0) return r;
    shut(s->init_fd);
    s->init_fd = (int)r;
    s->init_pid = control.from.pid;
    int off = 0;
    sys(setsockopt, s->peer, 1 /* SOL_SOCKET */, 16 /* SO_PASSCRED */, &off, sizeof off);
    sys(wait4, s->stage_pid, 0, 0, 0);
    s->stage_pid = 0;
    return 0;
}

long expand(const struct state *s, const char *text, char *to, ulong room) {
    static const char name[] = "$init_pid";
    ulong n = 0;
    while (*text) {
        ulong i = 0;
        while (name[i] && text[i] == name[i]) i++;
        if (n + 12 >= room) return -ENAMETOOLONG;
        if (name[i]) {
            to[n++] = *text++;
            continue;
        }
        char digits[12];
        int count = 0;
        for (int pid = s->init_pid; pid; pid /= 10) digits[count++] = (char)('0' + pid % 10);
        while (count) to[n++] = digits[--count];
        text += sizeof name - 1;
    }
    to[n] = 0;
    return (long)n;
}

/* Run a program of the host with `input` on its standard input; nothing it prints is taken for the container's. */
static long run_program(char **argv, const char *path, char **envp, int input, ulong timeout_ms) {
    struct clone_args args;
    int pidfd = -1;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == 0) {
        ulong none = 0;
        default_signals();
        sys(rt_sigprocmask, 2, &none, 0, 8);
        sys(dup3, input, 0, 0);
        int null = (int)open_at(AT_FDCWD, "/dev/null", O_WRONLY, 0);
        sys(dup3, null >= 0 ? null : 2, 1, 0);
        sys(close_range, 3, ~0U, 0);
        sys(execve, path, argv, envp);
        leave(127);
    }
    if (child < 0) return child;
    struct pollfd wait = {pidfd, POLLIN, 0};
    struct __kernel_timespec limit = {(long)(timeout_ms / 1000), (long)(timeout_ms % 1000) * 1000000};
    long r = sys(ppoll, &wait, 1, timeout_ms ? &limit : 0, 0, 8);
    if (r <= 0) sys(pidfd_send_signal, pidfd, SIGKILL, 0, 0);
    int status = 0;
    sys(wait4, child, &status, 0, 0);
    shut(pidfd);
    if (r <= 0) return -ETIMEDOUT;
    return status == 127 << 8 ? -ENOEXEC : status ? -ECANCELED : 0;
}

static long map_ids(struct state *s, const struct step *step) {
    ARGUMENTS(id_map_helper);
    static char *argv[256], *nothing[1], pid[24];
    long r = list_strings(&a->argv, argv, 256);
    if (r <= 0) return r < 0 ? r : -EINVAL;
    expand(s, "$init_pid", pid, sizeof pid);
    for (long i = 0; i < r; i++)
        if (same(argv[i], "$init_pid")) argv[i] = pid;
    int null = (int)open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0);
    r = run_program(argv, argv[0], nothing, null, 10000);
    shut(null);
    return r;
}

static long run_hook(struct state *s, const struct step *step) {
    ARGUMENTS(hook);
    static char *argv[1024], *envp[4096], state[65536];
    long r = list_strings(&a->argv, argv, 1024);
    if (r >= 0) r = list_strings(&a->env, envp, 4096);
    if (r >= 0) r = expand(s, a->state.s, state, sizeof state);
    if (r < 0) return r;
    int input = (int)sys(memfd_create, "state", 1 /* MFD_CLOEXEC */);
    if (input < 0) return input;
    sys(write, input, state, r);
    sys(lseek, input, 0, 0);
    r = run_program(argv, a->path.s, envp, input, a->timeout_ms.n);
    shut(input);
    return r < 0 && a->may_fail.n ? 0 : r;
}

/* A user namespace that nobody lives in: its maker waits until it is killed. */
static long user_namespace(struct state *s, const struct step *step) {
    ARGUMENTS(user_namespace);
    struct clone_args args;
    int pidfd = -1;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_NEWUSER | CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == 0) {
        sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;) sys(ppoll, 0, 0, 0, 0, 8);
    }
    if (child < 0) return child;
    char path[64];
    int us = s->init_pid;
    s->init_pid = (int)child;
    expand(s, "/proc/$init_pid/uid_map", path, sizeof path);
    long r = write_path(path, a->uid_map.s, a->uid_map.n);
    if (r == 0) {
        expand(s, "/proc/$init_pid/gid_map", path, sizeof path);
        r = write_path(path, a->gid_map.s, a->gid_map.n);
    }
    if (r == 0) {
        expand(s, "/proc/$init_pid/ns/user", path, sizeof path);
        r = open_at(AT_FDCWD, path, O_RDONLY, 0);
    }
    s->init_pid = us;
    sys(pidfd_send_signal, pidfd, SIGKILL, 0, 0);
    sys(wait4, child, 0, 0, 0);
    shut(pidfd);
    if (r >= 0) s->slots[a->slot.n] = (int)r;
    return r < 0 ? r : 0;
}

static long connect_to(const char *path) {
    struct { unsigned short family; char path[108]; } address = {1 /* AF_UNIX */, {0}};
    ulong n = length(path);
    if (n >= sizeof address.path) return -ENAMETOOLONG;
    memcpy(address.path, path, n);
    int fd = (int)sys(socket, 1, 1 | 02000000 /* STREAM, CLOEXEC */, 0);
    if (fd < 0) return fd;
    long r = sys(connect, fd, &address, sizeof address);
    if (r == -EPROTOTYPE) { /* a packet socket is as good */
        shut(fd);
        fd = (int)sys(socket, 1, 5 | 02000000, 0);
        r = fd < 0 ? fd : sys(connect, fd, &address, sizeof address);
    }
    if (r < 0) shut(fd);
    return r < 0 ? r : fd;
}

static long send_listener(struct state *s, const struct step *step) {
    ARGUMENTS(send_listener);
    static char text[65536];
    uint words[2] = {0};
    long r = hear(s, words, 2);
    if (r < 0) return r;
    int fd = (int)sys(pidfd_getfd, s->init_fd, words[1], 0);
    if (fd < 0) return fd;
    long size = expand(s, a->state.s, text, sizeof text);
    int socket = size < 0 ? (int)size : (int)connect_to(a->path.s);
    if (socket < 0) {
        shut(fd);
        return socket;
    }
    struct control control = {sizeof control.length + 8 + 4, 1, 1, {fd}, 0};
    struct part part = {text, (ulong)size};
    struct header header = {0, 0, 0, &part, 1, &control, 24, 0, 0};
    r = sys(sendmsg, socket, &header, MSG_NOSIGNAL);
    shut(socket);
    shut(fd);
    return r < 0 ? r : 0;
}

long take_process_step(struct state *s, const struct step *step) {
    const struct argument *a = step->arguments;
    uint words[] = {SAYS_GO, (uint)s->init_pid};
    long r;
    switch (step->op) {
    case OP_CLONE: return make_process(s, step);
    case OP_ADOPT: return adopt(s);
    case OP_ID_MAP_HELPER: return map_ids(s, step);
    case OP_HOOK: return run_hook(s, step);
    case OP_USER_NAMESPACE: return user_namespace(s, step);
    case OP_CONNECT:
        r = connect_to(a[0].s);
        if (r >= 0) s->slots[a[1].n] = (int)r;
        return r < 0 ? r : 0;
    case OP_SEND_LISTENER: return send_listener(s, step);
    case OP_SEND_PIDFD: {
        int socket = (int)connect_to(a[0].s);
        r = socket < 0 ? socket : send_fd(socket, s->init_fd);
        shut(socket);
        return r;
    }
    case OP_SIGNAL:
        r = sys(sendto, s->peer, words, sizeof words, MSG_NOSIGNAL, 0, 0);
        return r < 0 ? r : 0;
    case OP_AWAIT:
        r = hear(s, words, 2);
        if (r == 8 && s->actor == ACTOR_INIT) s->init_pid = (int)words[1];
        return r < 0 ? r : 0;
    case OP_UNSHARE: return sys(unshare, a[0].n);
    case OP_SETNS: return sys(setns, s->slots[a[0].n], a[1].n);
    case OP_OPEN_PIDFD:
        r = sys(pidfd_open, a[0].n, 0);
        if (r >= 0) s->slots[a[1].n] = (int)r;
        return r < 0 ? r : 0;
    }
    return -ENOSYS;
}
