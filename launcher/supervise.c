/* From the command's start to the end of everything: exec, PID 1 reaper, supervisor, undo. */
#include "launcher.h"

#define ARGUMENTS(kind) const struct kind *a = (const struct kind *)step->arguments
#define MAX_STRINGS 16384

struct ending { int signo, error, code, pad, pid, uid, status; char rest[100]; };
struct usage { long utime_s, utime_us, stime_s, stime_us, maxrss_kib, rest[13]; };

static char *argv[MAX_STRINGS + 1], *envp[MAX_STRINGS + 1];

static long strings(const struct argument *list, char **out) {
    if (list->n > MAX_STRINGS) return -E2BIG;
    const char *at = list->s;
    for (ulong i = 0; i < list->n; i++, at += length(at) + 1) out[i] = (char *)at;
    out[list->n] = 0;
    return 0;
}

/* execve, trying each directory of `search` for a bare name, as execvp(3) does. */
static long exec_search(const char *search) {
    if (!*argv[0]) return -ENOENT;
    if (find(argv[0], '/')) return sys(execve, argv[0], argv, envp);
    long result = -ENOENT;
    ulong size = length(argv[0]);
    for (;;) {
        const char *colon = find(search, ':');
        ulong n = colon ? (ulong)(colon - search) : length(search);
        char path[4096];
        if (n && n + size + 2 < sizeof path) {
            memcpy(path, search, n);
            path[n] = '/';
            memcpy(path + n + 1, argv[0], size + 1);
            long r = sys(execve, path, argv, envp);
            if (r == -EACCES) result = r;
            else if (r != -ENOENT && r != -ENOTDIR) return r;
        }
        if (!colon) return result;
        search = colon + 1;
    }
}

static int exit_code(const struct ending *info) {
    return info->code == 1 /* CLD_EXITED */ ? info->status : 128 + info->status;
}

/* PID 1 of the container: pass signals on, reap orphans, end as the command ends. */
__attribute__((noreturn)) static void reap(int child) {
    ulong all = ~0UL;
    sys(rt_sigprocmask, 2, &all, 0, 8);
    sys(close_range, 0, ~0U, 0);
    for (;;) {
        struct ending info;
        memset(&info, 0, sizeof info);
        if (sys(waitid, 0 /* P_ALL */, 0, &info, WNOHANG | WEXITED, 0) == 0 && info.pid) {
            if (info.pid == child) sys(exit_group, exit_code(&info));
            continue;
        }
        long n = sys(rt_sigtimedwait, &all, 0, 0, 8);
        if (n > 0 && n != SIGCHLD) sys(kill, child, n);
    }
}

long become_command(struct state *s, const struct step *step) {
    ARGUMENTS(exec);
    uint word = SAYS_STARTED;
    long r = strings(&a->argv, argv);
    if (r == 0) r = strings(&a->env, envp);
    if (r == 0) r = sys(close_range, (uint)a->close_from.n, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    if (r == 0) r = sys(sendto, s->peer, &word, 4, MSG_NOSIGNAL, 0, 0);
    if (r < 0) return r;
    if (a->reaper.n) {
        struct clone_args args;
        memset(&args, 0, sizeof args);
        args.exit_signal = SIGCHLD;
        r = sys(clone3, &args, sizeof args);
        if (r == -ENOSYS) r = sys(clone, SIGCHLD, 0, 0, 0, 0); /* the filter hides clone3 */
        if (r < 0) return r;
        if (r) reap((int)r);
    }
    ulong none = 0;
    sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
    r = exec_search(a->search.s);
    if (a->reaper.n) { /* PID 1 no longer listens: report from here */
        uint words[] = {SAYS_FAILED, s->step, (uint)-r, 0};
        sys(sendto, s->peer, words, sizeof words, MSG_NOSIGNAL, 0, 0);
        sys(exit_group, 127);
    }
    return r;
}

void kill_init(struct state *s) {
    if (s->init_fd < 0) return;
    sys(pidfd_send_signal, s->init_fd, SIGKILL, 0, 0);
    sys(wait4, s->init_pid, 0, 0, 0);
    s->init_fd = -1;
}

static void freeze(const char *file, int on) {
    if (!*file) return;
    int fd = (int)open_at(AT_FDCWD, file, O_WRONLY, 0);
    if (fd < 0) return;
    ulong n = length(file);
    int v1 = n > 6 && same(file + n - 6, ".state");
    if (v1) sys(write, fd, on ? "FROZEN" : "THAWED", 6);
    else sys(write, fd, on ? "1" : "0", 1);
    shut(fd);
}

/* What the caller wants. 0: the caller is gone. */
static int obey(struct state *s, const char *freezer) {
    uint words[2] = {0, 0};
    long n = sys(recvfrom, CONTROL_FD, words, sizeof words, 0x40 /* MSG_DONTWAIT */, 0, 0);
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) return 0;
    if (n < 4) return 1;
    if (words[0] == ORDER_FREEZE || words[0] == ORDER_THAW) {
        freeze(freezer, words[0] == ORDER_FREEZE);
        if (!*freezer) sys(kill, -s->init_pid, words[0] == ORDER_FREEZE ? SIGSTOP : SIGCONT);
    } else {
        sys(pidfd_send_signal, s->init_fd, words[0] == ORDER_KILL ? SIGKILL : words[1], 0, 0);
    }
    return 1;
}

static void copy_window(int pty) {
    struct { short row, col, x, y; } size;
    if (sys(ioctl, 0, TIOCGWINSZ, &size) == 0) sys(ioctl, pty, TIOCSWINSZ, &size);
}

static void make_raw(struct termios *t) {
    t->c_iflag &= ~(uint)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t->c_oflag &= ~(uint)OPOST;
    t->c_lflag &= ~(uint)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t->c_cflag = (t->c_cflag & ~(uint)(CSIZE | PARENB)) | CS8;
    t->c_cc[VMIN] = 1;
    t->c_cc[VTIME] = 0;
}

/* Copy once; 0 at the end of the source. */
static int copy(int from, int to) {
    static char buffer[16384];
    long n = sys(read, from, buffer, sizeof buffer);
    if (n == -EAGAIN || n == -EINTR) return 1;
    if (n <= 0) return 0;
    for (long done = 0; done < n;) {
        long r = sys(write, to, buffer + done, n - done);
        if (r == -EINTR) continue;
        if (r == -EAGAIN) {
            struct pollfd wait = {to, POLLOUT, 0};
            sys(ppoll, &wait, 1, 0, 0, 8);
            continue;
        }
        if (r < 0) return 0;
        done += r;
    }
    return 1;
}

static void end_relay(struct state *s, uint i) {
    int from = s->relays[i].from, to = s->relays[i].to;
    s->relays[i].from = -1;
    if (to == s->slots[SLOT_IN_WRITE]) shut(to); /* the command sees the end of its input */
    else if (to == s->slots[SLOT_PTY]) sys(write, to, "\4", 1);
    if (from > 2 && from != s->slots[SLOT_PTY]) shut(from);
}

struct watch { ulong deadline; uint timed_out; const char *freezer; int signals; };

enum { WATCH_INIT, WATCH_CONTROL, WATCH_PEER, WATCH_SIGNALS, WATCH_RELAYS };

/* One round of the supervisor's loop: 1 when the command has ended. */
static int watch_once(struct state *s, struct watch *w, int drain) {
    struct pollfd fds[WATCH_RELAYS + 4] = {
        {s->init_fd, POLLIN, 0}, {CONTROL_FD, POLLIN, 0}, {s->peer, POLLIN, 0}, {w->signals, POLLIN, 0}};
    for (uint i = 0; i < s->relay_count; i++) {
        fds[WATCH_RELAYS + i].fd = s->relays[i].from;
        fds[WATCH_RELAYS + i].events = POLLIN;
    }
    if (drain) fds[WATCH_INIT].fd = fds[WATCH_PEER].fd = -1;
    struct __kernel_timespec left = {0, 0}, *limit = drain ? &left : 0;
    if (w->deadline && !drain) {
        ulong now = now_ns(), ns = now < w->deadline ? w->deadline - now : 0;
        left.tv_sec = (long)(ns / 1000000000UL);
        left.tv_nsec = (long)(ns % 1000000000UL);
        limit = &left;
    }
    long ready = sys(ppoll, fds, WATCH_RELAYS + s->relay_count, limit, 0, 8);
    if (ready == 0 && drain) return 1;
    if (ready == 0) {
        w->timed_out = 1;
        w->deadline = 0;
        sys(pidfd_send_signal, s->init_fd, SIGKILL, 0, 0);
        freeze(w->freezer, 0);
    }
    for (uint i = 0; ready > 0 && i < s->relay_count; i++)
        if (fds[WATCH_RELAYS + i].revents && !copy(s->relays[i].from, s->relays[i].to)) end_relay(s, i);
    if (fds[WATCH_CONTROL].revents && !obey(s, w->freezer)) {
        sys(pidfd_send_signal, s->init_fd, SIGKILL, 0, 0);
        freeze(w->freezer, 0);
        shut(CONTROL_FD);
    }
    if (fds[WATCH_SIGNALS].revents) {
        char info[128];
        if (sys(read, w->signals, info, sizeof info) > 0 && s->slots[SLOT_PTY] >= 0) copy_window(s->slots[SLOT_PTY]);
    }
    if (fds[WATCH_PEER].revents) { /* the word that exec is next, an error, or (closed) that it is done */
        uint words[4];
        long n = sys(recvfrom, s->peer, words, sizeof words, 0x40, 0, 0);
        if (n == 4) s->started = 1;
        if (n == 16) {
            s->step = words[1];
            s->argument = words[3];
            return -(int)words[2];
        }
        if (n <= 0) {
            uint started[] = {SAYS_STARTED, (uint)s->init_pid};
            if (n == 0 && s->started) say(s, started, 2);
            shut(s->peer);
            s->peer = -1;
        }
        return 0;
    }
    return fds[WATCH_INIT].revents != 0;
}

static void say_exited(struct state *s, struct watch *w, ulong began) {
    struct ending info;
    struct usage usage;
    memset(&info, 0, sizeof info);
    memset(&usage, 0, sizeof usage);
    sys(waitid, 1 /* P_PID */, s->init_pid, &info, WEXITED, &usage);
    s->init_fd = -1;
    ulong wall = now_ns() - began;
    ulong user = (ulong)usage.utime_s * 1000000 + (ulong)usage.utime_us;
    ulong system = (ulong)usage.stime_s * 1000000 + (ulong)usage.stime_us;
    uint words[] = {SAYS_EXITED, (uint)exit_code(&info), info.code != 1, w->timed_out,
                    (uint)wall, (uint)(wall >> 32), (uint)user, (uint)(user >> 32),
                    (uint)system, (uint)(system >> 32), (uint)usage.maxrss_kib, s->started};
    say(s, words, 12);
}

long supervise(struct state *s, const struct step *step) {
    ARGUMENTS(supervise);
    ulong began = now_ns(), winch = SIGBIT(SIGWINCH);
    struct watch w = {a->timeout_ms.n ? began + a->timeout_ms.n * 1000000UL : 0, 0, a->freezer.s, -1};
    static const enum slot ours[] = {SLOT_IN_READ, SLOT_OUT_WRITE, SLOT_ERR_WRITE};
    for (uint i = 0; i < 3; i++) { shut(s->slots[ours[i]]); s->slots[ours[i]] = -1; } /* the command has its copy */
    struct termios saved, raw;
    int pty = s->slots[SLOT_PTY], terminal = pty >= 0 && sys(ioctl, 0, TCGETS, &saved) == 0;
    if (pty >= 0) {
        copy_window(pty);
        w.signals = (int)sys(signalfd4, -1, &winch, 8, O_CLOEXEC | O_NONBLOCK);
    }
    if (terminal) {
        raw = saved;
        make_raw(&raw);
        sys(ioctl, 0, TCSETS, &raw);
    }
    int end;
    while (!(end = watch_once(s, &w, 0)));
    if (end > 0) {
        while (s->peer >= 0) { /* what it said last: a failure, or that it went through exec */
            uint words[4];
            long n = sys(recvfrom, s->peer, words, sizeof words, 0x40, 0, 0);
            if (n == 16) { s->step = words[1]; s->argument = words[3]; end = -(int)words[2]; }
            if (n == 4) s->started = 1;
            if (n <= 0 || n == 16) { shut(s->peer); s->peer = -1; }
        }
        while (s->relay_count && !watch_once(s, &w, 1));
    }
    if (terminal) sys(ioctl, 0, TCSETSF, &saved);
    if (end < 0) return end;
    say_exited(s, &w, began);
    return 0;
}

static int path_in(char *to, const char *directory, const char *name) {
    ulong n = length(directory), m = length(name);
    if (n + m + 2 > 4096) return 0;
    memcpy(to, directory, n);
    to[n] = '/';
    memcpy(to + n + 1, name, m + 1);
    return 1;
}

/* Kill what still runs in a cgroup: one write on v2; on v1 process by process, thawed, since the frozen don't die. */
static void empty_cgroup(const char *path) {
    static char text[65536];
    char name[4096];
    if (!path_in(name, path, "cgroup.kill")) return;
    int fd = (int)open_at(AT_FDCWD, name, O_WRONLY, 0);
    if (fd >= 0) {
        sys(write, fd, "1", 1);
        shut(fd);
        return;
    }
    if (!path_in(name, path, "cgroup.procs")) return;
    fd = (int)open_at(AT_FDCWD, name, O_RDONLY, 0);
    long size = fd < 0 ? 0 : sys(read, fd, text, sizeof text);
    shut(fd);
    int pid = 0, me = (int)sys(getpid);
    for (long i = 0; i < size; i++) {
        if (text[i] >= '0' && text[i] <= '9') pid = pid * 10 + text[i] - '0';
        else { if (pid > 1 && pid != me) sys(kill, pid, SIGKILL); pid = 0; }
    }
    if (path_in(name, path, "freezer.state")) freeze(name, 0);
}

struct entry { ulong inode, offset; unsigned short size; unsigned char type; char name[]; };

/* Remove a cgroup and those that the container made below it, deepest first; 0 when all are gone. */
static long remove_cgroup_tree(const char *path, int depth) {
    long r = sys(unlinkat, AT_FDCWD, path, 0x200 /* AT_REMOVEDIR */);
    if (r != -EBUSY && r != -ENOTEMPTY) return r == -ENOENT ? 0 : r;
    empty_cgroup(path);
    int fd = depth < 16 ? (int)open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0) : -1;
    char entries[2048];
    for (long n; fd >= 0 && (n = sys(getdents64, fd, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < n; at += ((struct entry *)(entries + at))->size) {
            struct entry *entry = (struct entry *)(entries + at);
            char below[4096];
            if (entry->type != 4 /* DT_DIR */ || same(entry->name, ".") || same(entry->name, "..")) continue;
            if (path_in(below, path, entry->name)) remove_cgroup_tree(below, depth + 1);
        }
    }
    shut(fd);
    r = sys(unlinkat, AT_FDCWD, path, 0x200);
    return r == -ENOENT ? 0 : r;
}

static void remove_cgroup(const char *path) {
    for (ulong waited = 0; remove_cgroup_tree(path, 0) == -EBUSY && waited < 5000; waited += waited < 10 ? 1 : 10)
        nap_ms(waited < 10 ? 1 : 10);
}

void undo_all(struct state *s) {
    struct step step;
    while (s->undo_count) {
        decode_step(&s->plan, s->undo[--s->undo_count], &step);
        if (step.op == OP_CGROUP_MAKE) remove_cgroup(step.arguments[0].s);
        else sys(unlinkat, AT_FDCWD, step.arguments[0].s, 0x200);
    }
}
