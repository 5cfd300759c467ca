/* One case per step; those that build the root file system are in root.c, supervising is in supervise.c. */
#include "launcher.h"

int path_in(char *to, const char *directory, const char *name) {
    ulong n = length(directory), m = length(name);
    if (n + m + 2 > 4096) return 0;
    memcpy(to, directory, n);
    to[n] = '/';
    memcpy(to + n + 1, name, m + 1);
    return 1;
}

const char *split_path(const char *path, char directory[4096]) {
    ulong n = length(path), cut = n;
    while (cut && path[cut - 1] != '/') cut--;
    ulong size = cut > 1 ? cut - 1 : cut;
    if (size > 4095) size = 0;
    memcpy(directory, path, size);
    directory[size] = 0;
    return path + cut;
}

long list_strings(const struct argument *list, char **out, ulong room) {
    if (list->n >= room) return -E2BIG;
    const char *at = list->s;
    for (ulong i = 0; i < list->n; i++, at += length(at) + 1) out[i] = (char *)at;
    out[list->n] = 0;
    return (long)list->n;
}

long write_path(const char *path, const char *data, ulong size) {
    int fd = (int)open_at(AT_FDCWD, path, O_WRONLY, 0);
    if (fd < 0) return fd;
    long r = sys(write, fd, data, size);
    shut(fd);
    return r < 0 ? r : 0;
}

static long write_file(struct state *s, const struct step *step) {
    ARGUMENTS(write_file);
    static char path[4096], data[65536];
    long r = expand(s, a->path.s, path, sizeof path);
    if (r < 0) return r;
    r = expand(s, a->data.s, data, sizeof data);
    if (r >= 0) r = write_path(path, data, (ulong)r);
    return r == -ENOENT && a->optional.n ? 0 : r;
}

/* Under a name of its own first: whoever sees the file sees all of it. */
static long create_file(struct state *s, const struct step *step) {
    ARGUMENTS(create_file);
    static char data[65536];
    char name[4096];
    ulong n = length(a->path.s);
    long size = expand(s, a->data.s, data, sizeof data);
    if (size < 0) return size;
    if (n + 6 > sizeof name) return -ENAMETOOLONG;
    memcpy(name, a->path.s, n);
    memcpy(name + n, ".kist", 6);
    sys(unlinkat, AT_FDCWD, name, 0);
    int fd = (int)open_at(AT_FDCWD, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, (int)a->mode.n);
    if (fd < 0) return fd;
    long r = sys(write, fd, data, size);
    shut(fd);
    if (r >= 0) r = r == size ? sys(renameat2, AT_FDCWD, name, AT_FDCWD, a->path.s, 0) : -ENOSPC;
    if (r < 0) sys(unlinkat, AT_FDCWD, name, 0);
    return r < 0 ? r : a->keep.n ? 1 : 0; /* 1: not ours to remove */
}

/* v1: one thread moves through "tasks" at once; "cgroup.procs" waits for an RCU grace period (8 to 15 ms). */
static long cgroup_join(const char *path) {
    char name[4096];
    if (!path_in(name, path, "tasks")) return -ENAMETOOLONG;
    long r = write_path(name, "0", 1);
    if (r != -ENOENT && r != -EACCES) return r;
    return path_in(name, path, "cgroup.procs") ? write_path(name, "0", 1) : -ENAMETOOLONG;
}

static long read_path(const char *directory, const char *name, char text[4096]) {
    char path[4096];
    if (!path_in(path, directory, name)) return -ENAMETOOLONG;
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    long n = fd < 0 ? fd : sys(read, fd, text, 4095);
    shut(fd);
    while (n > 0 && text[n - 1] == '\n') n--;
    if (n >= 0) text[n] = 0;
    return n;
}

static long cgroup_inherit(const struct step *step) {
    ARGUMENTS(cgroup_inherit);
    char parent[4096], path[4096], text[4096];
    long n = read_path(a->path.s, a->file.s, text);
    if (n < 0 || !same(text, a->nothing.s)) return n < 0 ? n : 0;
    if (!path_in(parent, a->path.s, "..") || !path_in(path, a->path.s, a->file.s)) return -ENAMETOOLONG;
    n = read_path(parent, a->file.s, text);
    return n < 0 ? n : write_path(path, text, (ulong)n);
}

static long cgroup_own(const struct step *step) {
    ARGUMENTS(cgroup_own);
    char text[4096], name[4096];
    long r = sys(fchownat, AT_FDCWD, a->path.s, a->uid.n, -1, 0);
    long n = r < 0 ? r : read_path("/sys/kernel/cgroup", "delegate", text);
    for (char *line = text, *end = text + (n > 0 ? n : 0), *next; r == 0 && line < end; line = next) {
        for (next = line; next < end && *next != '\n'; next++);
        *next++ = 0;
        if (!*line || find(line, '/') || !path_in(name, a->path.s, line)) continue;
        r = sys(fchownat, AT_FDCWD, name, a->uid.n, -1, 0);
        if (r == -ENOENT) r = 0; /* of a controller that is not there */
    }
    return r;
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

static long new_pipe(struct state *s, const struct step *step) {
    ARGUMENTS(pipe);
    int ends[2];
    long r = sys(pipe2, ends, O_CLOEXEC);
    if (r < 0) return r;
    s->slots[a->read.n] = ends[0];
    s->slots[a->write.n] = ends[1];
    return 0;
}

/* Without a reader the terminal would fill, and its command wait for ever; without the master side it would be hung up. */
static long discard(struct state *s) {
    char data[1024];
    struct clone_args args;
    long n, pty = receive_fd(s);
    if (pty < 0) return pty;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child) {
        shut((int)pty);
        return child < 0 ? child : 0;
    }
    sys(setsid);
    null_stdio();
    if (pty != 3) sys(dup3, pty, 3, 0);
    sys(close_range, 4, ~0U, 0);
    while ((n = sys(read, 3, data, sizeof data)) > 0 || n == -EINTR);
    leave(0);
}

static long add_relay(struct state *s, const struct step *step) {
    ARGUMENTS(relay);
    static char rooms[MAX_RELAYS][RELAY_ROOM], logged[RELAY_ROOM];
    if (a->source.n == SLOT_PTY && s->slots[SLOT_PTY] < 0) {
        long r = receive_fd(s);
        if (r < 0) return r;
        s->slots[SLOT_PTY] = (int)r;
    }
    if (s->relay_count == MAX_RELAYS) return -E2BIG;
    struct channel *relay = &s->relays[s->relay_count];
    relay->from = s->slots[a->source.n];
    relay->to = s->slots[a->target.n];
    relay->log = a->source.n == SLOT_OUT_READ || a->source.n == SLOT_PTY ? 1 : a->source.n == SLOT_ERR_READ ? 2 : 0;
    relay->data = relay->to < 0 ? logged : rooms[s->relay_count]; /* what is only logged does not stay */
    s->relay_count++;
    return 0;
}

/* Below our own procfs, past whatever the container has mounted on its own (CVE-2019-16884, CVE-2025-52881). */
static long write_proc(struct state *s, const struct step *step) {
    ARGUMENTS(write_proc);
    struct open_how how = {O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    int fd = (int)sys(openat2, s->slots[SLOT_PROC], a->path.s, &how, sizeof how);
    if (fd < 0) return fd;
    long r = sys(write, fd, a->data.s, a->data.n);
    shut(fd);
    return r < 0 ? r : 0;
}

static long change_directory(const struct step *step) {
    ARGUMENTS(chdir);
    long r = sys(chdir, a->path.s);
    char where[4096];
    if (r == 0) r = sys(getcwd, where, sizeof where);
    if (r < 0) return r;
    return where[0] == '/' ? 0 : -EXDEV; /* "(unreachable)": a directory of the host, CVE-2024-21626 */
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

/* A change of user clears the effective capabilities; those kept as permitted are made effective again. */
static long set_ids(const struct step *step) {
    ARGUMENTS(set_ids);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    long r = sys(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (r == 0) r = sys(setresgid, a->gid.n, a->gid.n, a->gid.n);
    if (r == 0) r = sys(setresuid, a->uid.n, a->uid.n, a->uid.n);
    if (r == 0) r = sys(prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0);
    if (r == 0) r = sys(capget, &header, data);
    for (int i = 0; i < 2; i++) data[i].effective = data[i].permitted;
    return r == 0 ? sys(capset, &header, data) : r;
}

static long set_seccomp(struct state *s, const struct step *step) {
    ARGUMENTS(seccomp);
    struct sock_fprog program = {(unsigned short)(a->program.n / 8), (struct sock_filter *)a->program.s};
    long r = sys(seccomp, SECCOMP_SET_MODE_FILTER, a->flags.n, &program);
    if (r < 0 || !a->notify.n) return r < 0 ? r : 0;
    uint words[] = {SAYS_GO, (uint)r};
    if (sys(write, s->peer, words, sizeof words) < 0) return -EPIPE;
    while (sys(read, s->peer, words, sizeof words) == -EINTR); /* until it is in good hands: exec closes it */
    return 0;
}

static long report_file(struct state *s, const char *label, const char *path) {
    struct { uint kind, step; char data[4000]; } message = {SAYS_REPORT, s->step, {0}};
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    long n = fd < 0 ? 0 : sys(read, fd, message.data, sizeof message.data);
    shut(fd);
    if (n < 0) n = 0;
    if (s->reports >= 0) sys(write, s->reports, &message, 8 + n);
    ended_report(label, message.data, (ulong)n);
    return 0;
}

/* "KEY NUMBER" in a small file: say the text unless the number is 0 or the file is not there. */
static long warn(const struct step *step) {
    ARGUMENTS(warn);
    char text[4096];
    int fd = (int)open_at(AT_FDCWD, a->path.s, O_RDONLY, 0);
    long n = fd < 0 ? 0 : sys(read, fd, text, sizeof text - 1);
    shut(fd);
    text[n < 0 ? 0 : n] = 0;
    for (const char *line = text; line && *line; line = find(line, '\n'), line = line ? line + 1 : 0) {
        ulong i = 0;
        while (i < a->key.n && line[i] == a->key.s[i]) i++;
        if (i == a->key.n && line[i] == ' ' && line[i + 1] > '0' && line[i + 1] <= '9') {
            sys(write, 2, a->text.s, a->text.n);
            return 0;
        }
    }
    return 0;
}

/* Pipes and (unless `pipes`) files that are the command's stdio become its user's, but never devices. */
static long own_stdio(const struct step *step) {
    ARGUMENTS(own_stdio);
    for (int fd = 0; fd < 3; fd++) {
        struct statx st;
        if (sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_UID, &st) < 0 || st.stx_uid == a->uid.n) continue;
        uint kind = st.stx_mode & S_IFMT;
        if (kind == S_IFIFO || (!a->pipes.n && (kind == S_IFREG || kind == S_IFSOCK)))
            sys(fchown, fd, a->uid.n, a->gid.n); /* not if the owner has no number here, or the file system forbids it */
    }
    return 0;
}

static int is_null(int fd) {
    struct statx st;
    return sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFCHR &&
           st.stx_rdev_major == 1 && st.stx_rdev_minor == 3;
}

/* What is there in place of a /dev/null is left alone; opened so, it cannot keep us waiting. */
static long own_null(void) {
    int null = (int)open_at(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
    int ours = null >= 0 && is_null(null) && sys(fcntl, null, F_SETFL, 0) == 0;
    long r = 0;
    for (int fd = 0; ours && r >= 0 && fd < 3; fd++)
        if (fd != null && is_null(fd)) r = sys(dup3, null, fd, 0);
    shut(null);
    return r < 0 ? r : 0;
}

static long set_scheduler(const struct step *step) {
    ARGUMENTS(scheduler);
    struct { uint size, policy; ulong flags; int nice; uint priority; ulong runtime, deadline, period; uint low, high; }
        attr = {48, (uint)a->policy.n, a->flags.n, (int)a->nice.n, (uint)a->priority.n,
                a->runtime_ns.n, a->deadline_ns.n, a->period_ns.n, 0, 0};
    return sys(sched_setattr, 0, &attr, 0);
}

static long runnable(const char *path) {
    struct statx st;
    long r = sys(statx, AT_FDCWD, path, 0, STATX_TYPE, &st);
    if (r < 0) return r;
    return (st.stx_mode & S_IFMT) == S_IFREG ? sys(faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS) : -EACCES;
}

/* As execvp(3) would find it. */
static long find_command(const struct step *step) {
    ARGUMENTS(find_command);
    long result = -ENOENT;
    if (!*a->name.s) return -ENOENT;
    if (find(a->name.s, '/')) return runnable(a->name.s);
    for (const char *search = a->search.s;;) {
        const char *colon = find(search, ':');
        ulong n = colon ? (ulong)(colon - search) : length(search);
        char directory[4096], path[4096];
        if (n && n < sizeof directory) {
            memcpy(directory, search, n);
            directory[n] = 0;
            long r = path_in(path, directory, a->name.s) ? runnable(path) : -ENAMETOOLONG;
            if (r == 0) return 0;
            if (r == -EACCES) result = r;
        }
        if (!colon) return result;
        search = colon + 1;
    }
}

/* Line by line: name, password, uid, gid, comment, home, shell. A file that is none or cannot be read names nobody. */
static long find_home(struct state *s, const struct step *step) {
    static char text[1 << 18];
    ulong size = 5;
    memcpy(s->home, "HOME=/", 7);
    int fd = (int)open_at(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK, 0);
    long n = fd < 0 ? fd : sys(read, fd, text, sizeof text);
    shut(fd);
    for (char *at = text, *end = text + (n > 0 ? n : 0), *line; at < end;) {
        char *field[7] = {line = at};
        int fields = 1;
        for (; at < end && *at != '\n'; at++)
            if (*at == ':' && fields < 7) field[fields++] = at + 1;
        ulong uid = 0;
        char *digit = fields == 7 ? field[2] : at;
        for (; digit < at && *digit >= '0' && *digit <= '9'; digit++) uid = uid * 10 + (ulong)(*digit - '0');
        if (fields == 7 && *digit == ':' && digit > field[2] && uid == step->arguments[0].n && line < at) {
            size = (ulong)(field[6] - 1 - field[5]);
            if (size && size < sizeof s->home - 5) {
                memcpy(s->home + 5, field[5], size);
                s->home[5 + size] = 0;
            }
            return 0;
        }
        at++;
    }
    return 0;
}

static void end_by(int signal) { leave(128 + signal); }

/* Signals end it meanwhile, as they would any process: the kernel has no default action for PID 1. */
static long await_start(struct state *s, const struct step *step) {
    uint ready = SAYS_READY;
    char byte;
    ulong deadly = ~(SIGBIT(SIGCHLD) | SIGBIT(SIGCONT) | SIGBIT(SIGURG) | SIGBIT(SIGWINCH) | SIGBIT(SIGTSTP) |
                     SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU)) & 0x7fffffff, all = ~0UL;
    struct { ulong handler, flags, restorer, mask; } action = {(ulong)end_by, 0x04000000 /* SA_RESTORER */, (ulong)end_by, 0};
    for (int n = 1; n <= 31; n++)
        if (deadly & SIGBIT(n)) sys(rt_sigaction, n, &action, 0, 8);
    long r = sys(write, s->peer, &ready, 4); /* the call that the fewest filters deny */
    shut(s->peer);
    s->peer = -1;
    sys(rt_sigprocmask, 1 /* SIG_UNBLOCK */, &deadly, 0, 8);
    while (r >= 0 && (r = sys(read, s->slots[step->arguments[0].n], &byte, 1)) == -EINTR);
    sys(rt_sigprocmask, 0 /* SIG_BLOCK */, &all, 0, 8);
    return r < 0 ? r : 0;
}

long take_step(struct state *s, const struct step *step) {
    const struct argument *a = step->arguments;
    long r;
    switch (step->op) {
    case OP_MKDIR:
        r = sys(mkdirat, AT_FDCWD, a[0].s, a[1].n);
        return a[2].n && (r == -EEXIST || r == 0) ? 1 : r; /* 1: not ours to remove */
    case OP_REMOVE: return 0;
    case OP_WRITE_FILE: return write_file(s, step);
    case OP_CREATE_FILE: return create_file(s, step);
    case OP_OPEN:
        r = open_at(AT_FDCWD, a[0].s, (int)a[1].n, 0);
        if (r >= 0) s->slots[a[2].n] = (int)r;
        return r < 0 ? r : 0;
    case OP_CGROUP_MAKE:
        r = sys(mkdirat, AT_FDCWD, a[0].s, 0755);
        return a[1].n && r == -EEXIST ? 1 : r;
    case OP_CGROUP_INHERIT: return cgroup_inherit(step);
    case OP_CGROUP_OWN: return cgroup_own(step);
    case OP_CGROUP_JOIN: return cgroup_join(a[0].s);
    case OP_CGROUP_DEVICES: return cgroup_devices(step);
    case OP_PIPE: return new_pipe(s, step);
    case OP_RELAY: return add_relay(s, step);
    case OP_DISCARD: return discard(s);
    case OP_SHOW_LOG: return show_log(s, step);
    case OP_ATTEND: return attend(s, step);
    case OP_RECORD_END: return ended_write();
    case OP_SUPERVISE: return supervise(s, step);
    case OP_AWAIT_READY: return await_ready(s, (uint)a[0].n);
    case OP_LEAVE: s->undo_count = 0; return 0;
    case OP_REPORT_FILE: return report_file(s, a[0].s, a[1].s);
    case OP_WARN: return warn(step);
    case OP_MOUNT: s->argument = 2; return sys(mount, a[1].s, a[2].s, a[0].s, a[3].n, a[4].s);
    case OP_SETHOSTNAME: return sys(sethostname, a[0].s, a[0].n);
    case OP_SETDOMAINNAME: return sys(setdomainname, a[0].s, a[0].n);
    case OP_WRITE_PROC: return write_proc(s, step);
    case OP_NEW_KEYRING:
        r = sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, a[0].s);
        return r == -ENOSYS || r >= 0 ? 0 : r;
    case OP_SETSID: r = sys(setsid); return r < 0 ? r : 0;
    case OP_DUP: r = sys(dup3, s->slots[a[0].n], a[1].n, 0); return r < 0 ? r : 0;
    case OP_OWN_STDIO: return own_stdio(step);
    case OP_OWN_NULL: return own_null();
    case OP_RLIMIT: {
        struct rlimit64 limit = {a[1].n, a[2].n};
        return sys(prlimit64, 0, a[0].n, &limit, 0);
    }
    case OP_UMASK: sys(umask, a[0].n); return 0;
    case OP_CHDIR: return change_directory(step);
    case OP_SCHEDULER: return set_scheduler(step);
    case OP_IO_PRIORITY: return sys(ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, a[0].n);
    case OP_PERSONALITY: r = sys(personality, a[0].n); return r < 0 ? r : 0;
    case OP_MEMORY_POLICY: return sys(set_mempolicy, a[0].n, a[1].n ? a[1].s : 0, a[1].n * 8 + (a[1].n != 0));
    case OP_CPU_AFFINITY: r = sys(sched_setaffinity, 0, a[0].n, a[0].s); return r < 0 ? r : 0;
    case OP_BOUNDING_SET: return keep_bounding(a[0].n);
    case OP_SET_GROUPS: return sys(setgroups, a[0].n / 4, a[0].s);
    case OP_SET_IDS: return set_ids(step);
    case OP_CAPABILITIES: return set_capabilities(step);
    case OP_NO_NEW_PRIVS: return sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    case OP_SECCOMP: return set_seccomp(s, step);
    case OP_SEAL: return sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    case OP_DIE_WITH_PARENT: return sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    case OP_FIND_COMMAND: return find_command(step);
    case OP_AWAIT_START: return await_start(s, step);
    case OP_FIND_HOME: return find_home(s, step);
    case OP_PREPARE_EXEC: return prepare_exec(s, step);
    case OP_EXEC: return become_command(s, step);
    }
    r = take_process_step(s, step);
    if (r == -ENOSYS) r = take_network_step(s, step);
    return r == -ENOSYS ? take_root_step(s, step) : r;
}
