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

/* What the peer's last `n` bytes mean: a step of its own that failed, its end, or else words for us. */
static long heard_from(struct state *s, const struct failure *heard, long n) {
    if (n == sizeof *heard && heard->kind == SAYS_FAILED) {
        s->step = heard->step;
        s->argument = heard->argument;
        memcpy(s->words, heard->words, sizeof s->words);
        return -(long)heard->error;
    }
    return n ? n : -ECHILD;
}

long take_fd(int socket) {
    uint word;
    struct control control = {0, 0, 0, {-1}, 0};
    long r = receive(socket, &word, sizeof word, &control);
    if (r < 0) return r;
    return control.type == 1 && control.length >= 20 ? control.fd : -ECHILD;
}

long receive_fd(struct state *s) {
    struct failure heard;
    struct control control = {0, 0, 0, {-1}, 0};
    long r = heard_from(s, &heard, receive(s->peer, &heard, sizeof heard, &control));
    if (r < 0) return r;
    return control.type == 1 && control.length >= 20 ? control.fd : -ECHILD;
}

long hear(struct state *s, uint *words, uint count) {
    struct failure heard;
    memset(&heard, 0, sizeof heard);
    long n = heard_from(s, &heard, sys(recvfrom, s->peer, &heard, sizeof heard, 0, 0, 0));
    if (n >= 0) memcpy(words, &heard, (count < 4 ? count : 4) * 4);
    return n;
}

static void set_signals(ulong handler) {
    struct { ulong handler, flags, restorer, mask; } action = {handler, 0, 0, 0};
    for (int n = 1; n <= 64; n++) sys(rt_sigaction, n, &action, 0, 8);
}

/* Become another program, with nothing of ours but fds 0, 1, 2; returns if that cannot be. */
void exec_clean(char **argv, char **envp) {
    ulong none = 0;
    set_signals(1 /* SIG_IGN */); /* what is pending is forgotten: SIGPIPE, from telling a caller that has gone */
    set_signals(0);
    sys(rt_sigprocmask, 2, &none, 0, 8);
    sys(close_range, 3, ~0U, 0);
    sys(execve, argv[0], argv, envp);
}

/* In a child that does one thing for its maker: no longer than that is there, which may have gone by now. */
long end_with(int maker) {
    long r = sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    return r == 0 && sys(getppid) != maker ? -ESRCH : r;
}

/* A child from here on. The new process's own name for itself comes later. */
static void be_child(struct state *s, uint actor, int peer) {
    if (s->actor == ACTOR_HOST) {
        shut(s->orders);
        shut(s->reports);
        shut(s->peer);
    }
    s->actor = actor;
    shut(s->plan_fd); /* it stays mapped */
    s->plan_fd = s->orders = s->reports = s->init_fd = -1;
    s->on_failure = 0;
    s->peer = peer;
    s->undo_count = 0;
    set_signals(0);
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
    struct failure heard;
    struct control control;
    memset(&control, 0, sizeof control);
    long n = heard_from(s, &heard, receive(s->peer, &heard, sizeof heard, &control));
    if (n < 0) return n;
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
        n += decimal(to + n, (ulong)s->init_pid);
        text += sizeof name - 1;
    }
    to[n] = 0;
    return (long)n;
}

/* A program of the host. `output`: files for fds 1 and 2; "" is /dev/null for 1, since nothing that it prints may be taken
   for the container's, and ours for 2. */
struct program { char **argv, **envp; const char *path, *output[2]; int input, status; };

static void redirect(const char *path, int fd) {
    int flags = O_WRONLY | O_CREAT | O_APPEND;
    int to = (int)(*path ? open_at(AT_FDCWD, path, flags, 0700) : fd == 1 ? open_at(AT_FDCWD, "/dev/null", O_WRONLY, 0) : 2);
    sys(dup3, to >= 0 ? to : 2, fd, 0);
}

static long run_program(struct program *program, ulong timeout_ms) {
    struct clone_args args;
    int pidfd = -1;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == -ENOSYS) child = sys(clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0); /* a filter says so */
    if (child == 0) {
        ulong none = 0;
        set_signals(0);
        sys(rt_sigprocmask, 2, &none, 0, 8);
        sys(dup3, program->input, 0, 0);
        redirect(program->output[0], 1);
        if (*program->output[1]) redirect(program->output[1], 2);
        sys(close_range, 3, ~0U, 0);
        sys(execve, program->path, program->argv, program->envp);
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
    program->status = status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
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
    struct program program = {argv, nothing, argv[0], {"", ""}, null, 0};
    r = run_program(&program, 10000);
    shut(null);
    return r;
}

static long run_hook(struct state *s, const struct step *step) {
    ARGUMENTS(hook);
    static char *argv[1024], *envp[4096], state[65536];
    long r = list_strings(&a->argv, argv, 1024);
    if (r >= 0) r = list_strings(&a->env, envp, 4096);
    if (r > 0 && r < 4095 && s->actor == ACTOR_INIT && *s->home) envp[r] = s->home, envp[r + 1] = 0;
    char **env = r == 0 && s->actor == ACTOR_HOST ? s->environment : envp; /* none given: ours, outside */
    if (r >= 0) r = expand(s, a->state.s, state, sizeof state);
    if (r < 0) return r;
    int input = (int)sys(memfd_create, "state", 1 /* MFD_CLOEXEC */);
    if (input < 0) return input;
    sys(write, input, state, r);
    sys(lseek, input, 0, 0);
    struct program program = {argv, env, a->path.s, {a->stdout.s, a->stderr.s}, input, 255};
    r = run_program(&program, a->timeout_ms.n);
    shut(input);
    if (r == -ECANCELED) s->argument = (uint)program.status;
    if (r == 0 || !*a->warning.s) return r;
    char text[22];
    ulong n = decimal(text, (ulong)program.status);
    text[n] = '\n';
    sys(write, 2, a->warning.s, length(a->warning.s));
    sys(write, 2, text, n + 1);
    return 0;
}

/* A user namespace that nobody lives in: its maker waits until it is killed. */
static long user_namespace(struct state *s, const struct step *step) {
    ARGUMENTS(user_namespace);
    struct clone_args args;
    int pidfd = -1, maker = (int)sys(getpid);
    memset(&args, 0, sizeof args);
    args.flags = CLONE_NEWUSER | CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == 0) {
        while (end_with(maker) == 0) sys(ppoll, 0, 0, 0, 0, 8);
        leave(0);
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

struct unix_address { unsigned short family; char path[108]; };

/* Stream, packets or datagrams: what the other side has. "@name" is an abstract one, which the kernel looks up with its
 * kind: another one is not there, where a path's is of the wrong type. */
static long connect_to(const char *path) {
    struct unix_address address = {1 /* AF_UNIX */, {0}};
    ulong n = length(path);
    if (n >= sizeof address.path) return -ENAMETOOLONG;
    memcpy(address.path, path, n);
    long wrong = *path == '@' ? -ECONNREFUSED : -EPROTOTYPE;
    if (*path == '@') address.path[0] = 0;
    static const int kinds[] = {1 /* SOCK_STREAM */, 5 /* SOCK_SEQPACKET */, 2 /* SOCK_DGRAM */};
    long r = wrong;
    for (int i = 0; r == wrong && i < 3; i++) {
        int fd = (int)sys(socket, 1, kinds[i] | 02000000 /* CLOEXEC */, 0);
        if (fd < 0) return fd;
        r = sys(connect, fd, &address, 2 + n);
        if (r == 0) return fd;
        shut(fd);
    }
    return r;
}

/* The directory may have a longer name than a socket's address can hold. */
long bound_socket(const char *directory, const char *name, int kind, int mode) {
    struct unix_address address = {1, "/proc/self/fd/"};
    int dir = (int)open_at(AT_FDCWD, *directory ? directory : ".", O_PATH | O_DIRECTORY, 0);
    if (dir < 0) return dir;
    ulong n = length(address.path), size = length(name);
    n += decimal(address.path + n, (ulong)dir);
    address.path[n++] = '/';
    if (n + size >= sizeof address.path) { shut(dir); return -ENAMETOOLONG; }
    memcpy(address.path + n, name, size);
    int fd = (int)sys(socket, 1, kind | 02000000, 0);
    uint mask = (uint)sys(umask, 0777); /* nobody's before it has its mode */
    long r = fd < 0 ? fd : sys(bind, fd, &address, 2 + n + size);
    sys(umask, mask);
    if (r == 0) r = sys(fchmodat, dir, name, mode);
    shut(dir);
    if (r < 0) shut(fd);
    return r < 0 ? r : fd;
}

/* A datagram socket that anybody may write to. */
static long listen_at(struct state *s, const struct step *step) {
    ARGUMENTS(listen);
    long r = bound_socket(a->directory.s, a->name.s, 2, 0777);
    if (r >= 0) s->slots[a->slot.n] = (int)r;
    return r < 0 ? r : 0;
}

/* sd_notify(3): pass on what the container says until it says that it is ready, or has ended. */
static long await_notification(struct state *s, const struct step *step) {
    ARGUMENTS(await_notification);
    struct pollfd fds[2] = {{s->slots[a->source.n], POLLIN, 0}, {s->init_fd, POLLIN, 0}};
    char text[4096];
    for (;;) {
        sys(ppoll, fds, 2, 0, 0, 8);
        if (!fds[0].revents) return 0;
        long n = sys(read, s->slots[a->source.n], text, sizeof text - 1);
        if (n <= 0) return 0;
        sys(write, s->slots[a->target.n], text, n);
        text[n] = 0;
        for (const char *line = text; line; line = find(line, '\n'), line = line ? line + 1 : 0)
            if (starts_with(line, "READY=1")) return 0;
    }
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
    if (r < 0) return r;
    words[0] = SAYS_GO;
    r = sys(sendto, s->peer, words, 4, MSG_NOSIGNAL, 0, 0);
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
    case OP_LISTEN: return listen_at(s, step);
    case OP_AWAIT_NOTIFICATION: return await_notification(s, step);
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
    case OP_SETNS:
        if (s->slots[a[0].n] < 0) return 0; /* an attempt has done it */
        r = sys(setns, s->slots[a[0].n], a[1].n);
        if (a[2].n && r == 0) { shut(s->slots[a[0].n]); s->slots[a[0].n] = -1; }
        return a[2].n && r == -EPERM ? 0 : r;
    case OP_OPEN_PIDFD:
        r = sys(pidfd_open, a[0].n, 0);
        if (r >= 0) s->slots[a[1].n] = (int)r;
        return r < 0 ? r : 0;
    }
    return -ENOSYS;
}
