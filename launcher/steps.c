/* One case per step; those that build the root file system are in root.c, supervising is in supervise.c. */
#include "launcher.h"

#define ARGUMENTS(kind) const struct kind *a = (const struct kind *)step->arguments

/* `text` with $init_pid replaced by its digits. */
static long expand(const struct state *s, const char *text, char *to, ulong room) {
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
    return 0;
}

static long write_file(struct state *s, const char *path, const char *data, ulong size) {
    char name[4096];
    long r = expand(s, path, name, sizeof name);
    if (r < 0) return r;
    int fd = (int)open_at(AT_FDCWD, name, O_WRONLY, 0);
    if (fd < 0) return fd;
    r = sys(write, fd, data, size);
    shut(fd);
    return r < 0 ? r : 0;
}

/* v1: one thread moves through "tasks" at once; "cgroup.procs" waits for an RCU grace period (8 to 15 ms). */
static long cgroup_join(struct state *s, const char *path) {
    char name[4096];
    ulong n = length(path);
    if (n + 14 > sizeof name) return -ENAMETOOLONG;
    memcpy(name, path, n);
    memcpy(name + n, "/tasks", 7);
    long r = write_file(s, name, "0", 1);
    if (r != -ENOENT && r != -EACCES) return r;
    memcpy(name + n, "/cgroup.procs", 14);
    return write_file(s, name, "0", 1);
}

static long cgroup_devices(const struct step *step) {
    ARGUMENTS(cgroup_devices);
    int dir = (int)open_at(AT_FDCWD, a->path.s, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) return dir;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attr.insns = (ulong)a->program.s;
    attr.insn_cnt = (uint)(a->program.n / 8);
    attr.license = (ulong)"Apache-2.0";
    int program = (int)sys(bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    long r = program;
    if (program >= 0) {
        memset(&attr, 0, sizeof attr);
        attr.target_fd = (uint)dir;
        attr.attach_bpf_fd = (uint)program;
        attr.attach_type = BPF_CGROUP_DEVICE;
        attr.attach_flags = BPF_F_ALLOW_MULTI;
        r = sys(bpf, BPF_PROG_ATTACH, &attr, sizeof attr);
    }
    shut(program);
    shut(dir);
    return r < 0 ? r : 0;
}

/* 0 in the supervisor, 1 in the container's first process. */
static long clone_init(struct state *s, const struct step *step) {
    ARGUMENTS(clone);
    int pair[2], pidfd = -1;
    long r = sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000 /* SEQPACKET, CLOEXEC */, 0, pair);
    if (r < 0) return r;
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = a->flags.n | CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    if (a->cgroup.n) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (ulong)s->slots[a->cgroup.n];
    }
    r = sys(clone3, &args, sizeof args);
    if (r < 0) {
        shut(pair[0]);
        shut(pair[1]);
        return r;
    }
    shut(pair[r == 0 ? 0 : 1]);
    s->peer = pair[r == 0 ? 1 : 0];
    s->init_pid = r == 0 ? 1 : (int)r;
    s->init_fd = pidfd;
    if (r) return 0;
    shut(CONTROL_FD);
    s->init_fd = -1;
    struct { ulong handler, flags, restorer, mask; } standard = {0, 0, 0, 0};
    for (int n = 1; n <= 64; n++) sys(rt_sigaction, n, &standard, 0, 8);
    return 1;
}

/* newuidmap and its like: bounded to ten seconds. */
static long run_helper(struct state *s, const struct step *step) {
    ARGUMENTS(id_map_helper);
    char *argv[64], pid[16];
    static char *const environment[] = {0};
    if (a->argv.n >= 64 || !a->argv.n) return -E2BIG;
    const char *word = a->argv.s;
    for (ulong i = 0; i < a->argv.n; i++, word += length(word) + 1) argv[i] = (char *)word;
    argv[a->argv.n] = 0;
    expand(s, "$init_pid", pid, sizeof pid);
    for (ulong i = 0; i < a->argv.n; i++)
        if (same(argv[i], "$init_pid")) argv[i] = pid;
    struct clone_args args;
    int pidfd = -1;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD;
    args.pidfd = (ulong)&pidfd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == 0) {
        ulong none = 0;
        sys(rt_sigprocmask, 2, &none, 0, 8);
        sys(dup3, 2, 1, 0);
        sys(execve, argv[0], argv, environment);
        sys(exit_group, 127);
    }
    if (child < 0) return child;
    struct pollfd wait = {pidfd, POLLIN, 0};
    struct __kernel_timespec limit = {10, 0};
    long r = sys(ppoll, &wait, 1, &limit, 0, 8);
    if (r <= 0) sys(pidfd_send_signal, pidfd, SIGKILL, 0, 0);
    int status = 0;
    sys(wait4, child, &status, 0, 0);
    shut(pidfd);
    return r <= 0 ? -ETIMEDOUT : status ? -EPERM : 0;
}

/* A word from the other side. Its failure is ours. */
static long await(struct state *s) {
    uint words[4];
    long n = sys(recvfrom, s->peer, words, sizeof words, 0, 0, 0);
    if (n < 0) return n;
    if (n == 16 && words[0] == SAYS_FAILED) {
        s->step = words[1];
        s->argument = words[3];
        return -(long)words[2];
    }
    return n == 4 ? 0 : -ECHILD;
}

static long new_pipe(struct state *s, const struct step *step) {
    ARGUMENTS(pipe);
    int ends[2];
    long r = sys(pipe2, ends, O_CLOEXEC);
    if (r < 0) return r;
    s->slots[a->read.n] = ends[0];
    s->slots[a->write.n] = ends[1];
    return 0;
}

struct control { ulong length; int level, type, fd; int pad; };
struct header { void *name; uint name_size, pad; struct { const void *at; ulong size; } *parts; ulong part_count;
                void *control; ulong control_size; uint flags, pad2; };

long send_fd(int socket, int fd) {
    uint word = SAYS_STARTED;
    struct control control = {sizeof(struct control) - 4, 1 /* SOL_SOCKET */, 1 /* SCM_RIGHTS */, fd, 0};
    struct { const void *at; ulong size; } part = {&word, 4};
    struct header header = {0, 0, 0, (void *)&part, 1, &control, sizeof control, 0, 0};
    return sys(sendmsg, socket, &header, 0);
}

long receive_fd(int socket) {
    uint word = 0;
    struct control control = {0, 0, 0, -1, 0};
    struct { const void *at; ulong size; } part = {&word, 4};
    struct header header = {0, 0, 0, (void *)&part, 1, &control, sizeof control, 0, 0};
    long r = sys(recvmsg, socket, &header, 0x40000000 /* MSG_CMSG_CLOEXEC */);
    return r < 0 ? r : control.fd;
}

static long loopback_up(const struct step *step) {
    ARGUMENTS(link_up);
    struct { char name[16]; short flags; char rest[22]; } request;
    memset(&request, 0, sizeof request);
    if (length(a->name.s) > 15) return -ENAMETOOLONG;
    memcpy(request.name, a->name.s, length(a->name.s));
    int fd = (int)sys(socket, 2 /* AF_INET */, 2 | 02000000 /* DGRAM, CLOEXEC */, 0);
    if (fd < 0) return fd;
    long r = sys(ioctl, fd, 0x8913 /* SIOCGIFFLAGS */, &request);
    request.flags |= 1 /* IFF_UP */;
    if (r == 0) r = sys(ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &request);
    shut(fd);
    return r;
}

static long set_sysctl(struct state *s, const struct step *step) {
    ARGUMENTS(sysctl);
    char path[4096];
    ulong n = length(a->key.s);
    if (n + 5 > sizeof path) return -ENAMETOOLONG;
    memcpy(path, "sys/", 4);
    memcpy(path + 4, a->key.s, n + 1);
    struct open_how how = {O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    int fd = (int)sys(openat2, s->slots[SLOT_PROC], path, &how, sizeof how);
    if (fd < 0) return fd;
    long r = sys(write, fd, a->value.s, length(a->value.s));
    shut(fd);
    return r < 0 ? r : 0;
}

static long change_directory(const struct step *step) {
    ARGUMENTS(chdir);
    long r = sys(chdir, a->path.s);
    if (r == -ENOENT) {
        char path[4096];
        ulong n = length(a->path.s);
        if (n >= sizeof path) return -ENAMETOOLONG;
        for (ulong i = 1; i <= n; i++) {
            if (a->path.s[i] != '/' && a->path.s[i]) continue;
            memcpy(path, a->path.s, i);
            path[i] = 0;
            r = sys(mkdirat, AT_FDCWD, path, 0755);
            if (r < 0 && r != -EEXIST) return r;
        }
        r = sys(chdir, a->path.s);
    }
    if (r < 0) return r;
    char where[4096];
    r = sys(getcwd, where, sizeof where);
    if (r < 0) return r;
    return where[0] == '/' ? 0 : -EXDEV; /* "(unreachable)": a directory of the host */
}

static long keep_bounding(ulong keep) {
    for (uint cap = 0; cap < 64; cap++) {
        long r = sys(prctl, PR_CAPBSET_READ, cap, 0, 0, 0);
        if (r < 0) return 0; /* the last one known */
        if (r == 1 && !(keep >> cap & 1)) r = sys(prctl, PR_CAPBSET_DROP, cap, 0, 0, 0);
        if (r < 0) return r;
    }
    return 0;
}

static long set_capabilities(const struct step *step) {
    ARGUMENTS(capabilities);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint)(a->effective.n >> (32 * i));
        data[i].permitted = (uint)(a->permitted.n >> (32 * i));
        data[i].inheritable = (uint)(a->inheritable.n >> (32 * i));
    }
    long r = sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (r == 0) r = sys(capset, &header, data);
    for (uint cap = 0; r == 0 && cap < 64; cap++)
        if (a->ambient.n >> cap & 1) r = sys(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return r;
}

static long set_ids(const struct step *step) {
    ARGUMENTS(set_ids);
    long r = sys(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (r == 0) r = sys(setresgid, a->gid.n, a->gid.n, a->gid.n);
    if (r == 0) r = sys(setresuid, a->uid.n, a->uid.n, a->uid.n);
    if (r == 0) r = sys(prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return r;
}

static long set_seccomp(const struct step *step) {
    ARGUMENTS(seccomp);
    struct sock_fprog program = {(unsigned short)(a->program.n / 8), (struct sock_filter *)a->program.s};
    long r = sys(seccomp, SECCOMP_SET_MODE_FILTER, a->flags.n, &program);
    return r > 0 ? 0 : r;
}

static long report_file(struct state *s, const char *path) {
    struct { uint kind, step; char data[4096]; } message = {SAYS_REPORT, s->step, {0}};
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    long n = fd < 0 ? 0 : sys(read, fd, message.data, sizeof message.data);
    shut(fd);
    sys(sendto, CONTROL_FD, &message, 8 + (n < 0 ? 0 : n), MSG_NOSIGNAL, 0, 0);
    return 0;
}

static long dup_slot(struct state *s, const struct step *step) {
    ARGUMENTS(dup);
    int fd = s->slots[a->slot.n];
    if (a->uid.n || a->gid.n) {
        long r = sys(fchown, fd, a->uid.n, a->gid.n);
        if (r < 0) return r;
    }
    long r = sys(dup3, fd, a->fd.n, 0);
    return r < 0 ? r : 0;
}

long take_step(struct state *s, const struct step *step) {
    const struct argument *a = step->arguments;
    uint word = SAYS_STARTED;
    long r;
    switch (step->op) {
    case OP_MKDIR:
        r = sys(mkdirat, AT_FDCWD, a[0].s, a[1].n);
        return a[2].n && (r == -EEXIST || r == 0) ? 1 : r; /* 1: not ours to remove */
    case OP_CGROUP_MAKE: return sys(mkdirat, AT_FDCWD, a[0].s, 0755);
    case OP_WRITE_FILE: return write_file(s, a[0].s, a[1].s, a[1].n);
    case OP_CGROUP_JOIN: return cgroup_join(s, a[0].s);
    case OP_CGROUP_DEVICES: return cgroup_devices(step);
    case OP_OPEN_DIR:
        r = open_at(AT_FDCWD, a[0].s, O_RDONLY | O_DIRECTORY, 0);
        if (r >= 0) s->slots[a[1].n] = (int)r;
        return r < 0 ? r : 0;
    case OP_CLONE: return clone_init(s, step);
    case OP_ID_MAP_HELPER: return run_helper(s, step);
    case OP_SIGNAL:
        r = sys(sendto, s->peer, &word, 4, MSG_NOSIGNAL, 0, 0);
        return r < 0 ? r : 0;
    case OP_AWAIT: return await(s);
    case OP_PIPE: return new_pipe(s, step);
    case OP_RELAY:
        if (a[0].n == SLOT_PTY && s->slots[SLOT_PTY] < 0) {
            r = receive_fd(s->peer);
            if (r < 0) return r;
            s->slots[SLOT_PTY] = (int)r;
        }
        if (s->relay_count == 4) return -E2BIG;
        s->relays[s->relay_count].from = s->slots[a[0].n];
        s->relays[s->relay_count++].to = s->slots[a[1].n];
        return 0;
    case OP_SUPERVISE: return supervise(s, step);
    case OP_REPORT_FILE: return report_file(s, a[1].s);
    case OP_UNSHARE: return sys(unshare, a[0].n);
    case OP_SETNS: return sys(setns, s->slots[a[0].n], a[1].n);
    case OP_OPEN_PIDFD:
        r = sys(pidfd_open, a[0].n, 0);
        if (r >= 0) s->slots[a[1].n] = (int)r;
        return r < 0 ? r : 0;
    case OP_MOUNT_PROPAGATION: return sys(mount, 0, a[0].s, 0, a[1].n, 0);
    case OP_MOUNT: s->argument = 2; return sys(mount, a[1].s, a[2].s, a[0].s, a[3].n, a[4].s);
    case OP_SETHOSTNAME: return sys(sethostname, a[0].s, a[0].n);
    case OP_SETDOMAINNAME: return sys(setdomainname, a[0].s, a[0].n);
    case OP_SYSCTL: return set_sysctl(s, step);
    case OP_LINK_UP: return loopback_up(step);
    case OP_NEW_KEYRING:
        r = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, a[0].s);
        return r == -ENOSYS || r >= 0 ? 0 : r;
    case OP_SETSID: r = sys(setsid); return r < 0 ? r : 0;
    case OP_DUP: return dup_slot(s, step);
    case OP_RLIMIT: {
        struct rlimit64 limit = {a[1].n, a[2].n};
        return sys(prlimit64, 0, a[0].n, &limit, 0);
    }
    case OP_UMASK: sys(umask, a[0].n); return 0;
    case OP_CHDIR: return change_directory(step);
    case OP_BOUNDING_SET: return keep_bounding(a[0].n);
    case OP_SET_GROUPS: return sys(setgroups, a[0].n / 4, a[0].s);
    case OP_SET_IDS: return set_ids(step);
    case OP_CAPABILITIES: return set_capabilities(step);
    case OP_NO_NEW_PRIVS: return sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case OP_SECCOMP: return set_seccomp(step);
    case OP_SEAL: return sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    case OP_DIE_WITH_PARENT: return sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    case OP_EXEC: return become_command(s, step);
    }
    return take_root_step(s, step);
}
