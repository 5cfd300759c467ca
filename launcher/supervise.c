/* From the command's start to its end: exec, the PID 1 that reaps, and the supervisor on the host. */
#include "launcher.h"

struct ending { int signo, error, code, pad, pid, uid, status; char rest[100]; };
struct usage { long utime_s, utime_us, stime_s, stime_us, maxrss_kib, rest[13]; };
struct signal_info { uint number; int error, code; char rest[116]; };

static char *argv[MAX_STRINGS + 1], *envp[MAX_STRINGS + 2];

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
            if (info.pid == child) leave(exit_code(&info));
            continue;
        }
        long n = sys(rt_sigtimedwait, &all, 0, 0, 8);
        if (n > 0 && n != SIGCHLD) sys(kill, child, n);
    }
}

long prepare_exec(struct state *s, const struct step *step) {
    ARGUMENTS(prepare_exec);
    uint word = SAYS_STARTED;
    ulong none = 0;
    long r = sys(close_range, (uint)a->close_from.n, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    /* Not whatever is below close_from: where the caller left a gap, an fd of ours is. */
    for (uint fd = 3; r >= 0 && fd < MAX_GIVEN; fd++)
        if (s->given[fd] == GIVEN_THE_COMMAND) sys(fcntl, fd, F_SETFD, 0);
    if (r >= 0 && s->peer >= 0) r = sys(sendto, s->peer, &word, 4, MSG_NOSIGNAL, 0, 0);
    if (r < 0) return r;
    if (a->reaper.n) {
        struct clone_args args;
        memset(&args, 0, sizeof args);
        args.exit_signal = SIGCHLD;
        r = sys(clone3, &args, sizeof args);
        if (r < 0) return r;
        if (r) reap((int)r);
    }
    return sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
}

long become_command(struct state *s, const struct step *step) {
    ARGUMENTS(exec);
    long r = list_strings(&a->argv, argv, MAX_STRINGS);
    if (r >= 0) r = list_strings(&a->env, envp, MAX_STRINGS);
    if (r < 0) return r;
    if (*s->home) {
        envp[r] = s->home;
        envp[r + 1] = 0;
    }
    r = exec_search(a->search.s);
    if (s->peer < 0) { /* started by somebody who is not there any more: say it where the command's errors go */
        static const char text[] = "kist: the command could not be executed\n";
        sys(write, 2, text, sizeof text - 1);
    }
    return r; /* with a reaper, PID 1 no longer listens: whoever called us reports from here */
}

static void kill_init(struct state *s) {
    sys(pidfd_send_signal, s->init_fd, SIGKILL, 0, 0);
}

void kill_children(struct state *s) {
    if (s->init_fd < 0) return;
    kill_init(s);
    sys(wait4, s->init_pid, 0, 0x40000000 /* __WALL */, 0);
    if (s->stage_pid) sys(wait4, s->stage_pid, 0, 0x40000000, 0);
    shut(s->init_fd);
    s->init_fd = -1;
}

struct watch {
    ulong deadline;
    const struct supervise *plan;
    struct termios saved;
    int signals, terminal;  /* signalfd; whether the caller's terminal is ours to set */
    uint timed_out, killed_by, asked;
    ulong ignored;          /* signals that our caller ignores, as nohup(1) has it */
    ulong early;            /* those that came before the command was there */
};

static void raw_terminal(struct watch *w) {
    struct termios t = w->saved;
    t.c_iflag &= ~(uint)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag &= ~(uint)OPOST;
    t.c_lflag &= ~(uint)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t.c_cflag = (t.c_cflag & ~(uint)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    sys(ioctl, 0, TCSETSW, &t);
}

static void copy_window(int pty) {
    struct { short row, col, x, y; } size;
    if (sys(ioctl, 0, TIOCGWINSZ, &size) == 0) sys(ioctl, pty, TIOCSWINSZ, &size);
}

/* The start of a file below /proc/INIT_PID. */
static void read_init(const struct state *s, const char *name, char *text, ulong room) {
    char directory[32], path[4096];
    expand(s, "/proc/$init_pid", directory, sizeof directory);
    path_in(path, directory, name);
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    long n = fd < 0 ? 0 : sys(read, fd, text, room - 1);
    shut(fd);
    text[n < 0 ? 0 : n] = 0;
}

static ulong parse(const char *text, uint base) {
    ulong n = 0;
    for (; (*text >= '0' && *text <= '9') || (base == 16 && *text >= 'a' && *text <= 'f'); text++)
        n = n * base + (ulong)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
    return n;
}

/* Whether the first process looks after this signal itself: it catches, blocks or ignores it, or waits for signals (then
 * those waited for do not show as blocked). For a PID 1 the default action is to do nothing; as the command of a
 * container it is to end. */
static int looks_after(struct state *s, uint number) {
    char text[4096];
    static const char *const sets[] = {"SigBlk:\t", "SigIgn:\t", "SigCgt:\t"};
    ulong mask = 0, found = 0;
    read_init(s, "syscall", text, sizeof text);
    if (parse(text, 10) == __NR_rt_sigtimedwait) return 1;
    read_init(s, "status", text, sizeof text);
    for (const char *line = text; line && *line; line = find(line, '\n'), line = line ? line + 1 : 0)
        for (int i = 0; i < 3; i++) {
            ulong k = 0;
            while (sets[i][k] && line[k] == sets[i][k]) k++;
            if (sets[i][k]) continue;
            mask |= parse(line + k, 16);
            found++;
        }
    return found < 3 || mask >> (number - 1) & 1;
}

static int ends_by_default(uint n) {
    return n != SIGCHLD && n != SIGCONT && n != SIGURG && n != SIGWINCH && n != SIGTSTP && n != SIGTTIN && n != SIGTTOU;
}

/* `typed`: the terminal sent it, so it is for the whole foreground group, as it would be without us. Until the first
 * process is the command signals wait here: what is sent to a PID 1 without handlers is lost. */
static void pass_on(struct state *s, struct watch *w, uint number, int typed) {
    if (number < 1 || number > 64) return;
    if (s->peer >= 0 && number != SIGKILL) {
        w->early |= SIGBIT(number);
        return;
    }
    if ((number == SIGINT || number == SIGTERM) && s->on_failure) w->asked++;
    int deaf = ends_by_default(number) && !w->plan->reaper.n && !looks_after(s, number);
    if (s->started && (deaf || w->asked == 3)) { /* the third time, whatever it does with them */
        w->killed_by = number;
        number = SIGKILL;
    }
    if (typed && number != SIGKILL) sys(kill, -s->init_pid, number);
    else sys(pidfd_send_signal, s->init_fd, number, 0, 0);
    if (number == SIGKILL) freeze(w->plan->freezer.s, 0);
}

static void stand_still(struct state *s, struct watch *w, int on) {
    if (*w->plan->freezer.s) freeze(w->plan->freezer.s, on);
    else sys(pidfd_send_signal, s->init_fd, on ? SIGSTOP : SIGCONT, 0, 0);
}

/* Ctrl-Z: the container stands still as long as we do. */
static void stop_and_go(struct state *s, struct watch *w) {
    stand_still(s, w, 1);
    if (w->terminal) sys(ioctl, 0, TCSETSW, &w->saved);
    sys(kill, sys(getpid), SIGSTOP);
    if (w->terminal) raw_terminal(w);
    if (s->slots[SLOT_PTY] >= 0) copy_window(s->slots[SLOT_PTY]);
    stand_still(s, w, 0);
}

static void take_signal(struct state *s, struct watch *w) {
    struct signal_info info;
    while (sys(read, w->signals, &info, sizeof info) == sizeof info) {
        if (info.number == SIGWINCH && s->slots[SLOT_PTY] >= 0) copy_window(s->slots[SLOT_PTY]);
        else if (info.number == SIGTSTP) stop_and_go(s, w);
        else if (!(w->ignored >> (info.number - 1) & 1)) pass_on(s, w, info.number, info.code == 0x80 /* SI_KERNEL */);
    }
}

/* What the caller wants. 0: the caller is gone. */
static int obey(struct state *s, struct watch *w) {
    uint words[2] = {0, 0};
    long n = sys(read, s->orders, words, sizeof words);
    if (n == 0 || (n < 0 && n != -EAGAIN && n != -EINTR)) return 0;
    if (n < 4) return 1;
    if (words[0] == ORDER_FREEZE || words[0] == ORDER_THAW) stand_still(s, w, words[0] == ORDER_FREEZE);
    else pass_on(s, w, words[0] == ORDER_KILL ? SIGKILL : words[1], 0);
    return 1;
}

static void end_relay(struct state *s, struct channel *relay) {
    if (relay->to == s->slots[SLOT_IN_WRITE]) { /* the command sees the end of its input */
        shut(relay->to);
        s->slots[SLOT_IN_WRITE] = -1;
    } else if (relay->to >= 0 && relay->to == s->slots[SLOT_PTY]) {
        sys(write, relay->to, "\4", 1);
    }
    relay->from = relay->to = -1;
}

/* Where writing could block: what is certainly taken at once, if anything. */
static long put(const struct channel *relay) {
    ulong n = relay->end - relay->start;
    if (relay->slow) {
        struct pollfd ready = {relay->to, POLLOUT, 0};
        struct __kernel_timespec now = {0, 0};
        if (sys(ppoll, &ready, 1, &now, 0, 8) == 0) return -EAGAIN;
        if (n > 4096) n = 4096; /* PIPE_BUF */
    }
    return sys(write, relay->to, relay->data + relay->start, n);
}

/* Move what can be moved without waiting. */
static void run_relay(struct state *s, struct watch *w, struct channel *relay, int readable, int writable) {
    if (readable && relay->start == relay->end) {
        long n = sys(read, relay->from, relay->data, RELAY_ROOM);
        if (n == -EAGAIN || n == -EINTR) return;
        if (n == -EIO && relay->from == 0 && s->on_failure && relay->to != s->slots[SLOT_PTY]) {
            stop_and_go(s, w); /* a background process that wants to read the terminal: SIGTTIN, which we block */
            return;
        }
        if (n <= 0) {
            end_relay(s, relay);
            return;
        }
        if (relay->log) log_take(relay->log, relay->data, (ulong)n);
        relay->start = 0;
        relay->end = relay->to < 0 ? 0 : (uint)n;
    }
    if (relay->start < relay->end && (readable || writable)) {
        long n = put(relay);
        if (n > 0) relay->start += (uint)n;
        else if (n != -EAGAIN && n != -EINTR) {
            if (relay->log && relay->from != s->slots[SLOT_PTY]) shut(relay->from); /* nobody reads: the command is to know */
            end_relay(s, relay);
        }
    }
}

void say_started(struct state *s) {
    uint words[] = {SAYS_STARTED, (uint)s->init_pid, (uint)sys(getpid)};
    tell(s, words, 3);
    if (s->detached) sys(madvise, s->plan.bytes, s->plan.size, 4 /* MADV_DONTNEED */); /* little of it is read again */
}

/* One round; 1 when the command has ended, or in the final rounds (`drain`) when nothing is left to copy. */
static long watch_once(struct state *s, struct watch *w, int drain) {
    enum { FIRST = 6 };
    struct pollfd fds[FIRST + MAX_RELAYS + ATTEND_FDS + RESOLVER_FDS] = {
        {s->init_fd, POLLIN, 0}, {s->orders, POLLIN, 0}, {s->peer, POLLIN, 0}, {w->signals, POLLIN, 0},
        {proxy_waits(), POLLIN, 0}, {drain ? -1 : s->slots[SLOT_TARGET], POLLIN, 0},
    };
    uint count = FIRST;
    for (uint i = 0; i < s->relay_count; i++, count++) {
        struct channel *relay = &s->relays[i];
        int full = relay->start < relay->end;
        fds[count].fd = full ? relay->to : relay->from;
        fds[count].events = full ? POLLOUT : POLLIN;
        if (drain && relay->from == 0) fds[count].fd = -1;
    }
    if (drain) fds[0].fd = fds[2].fd = fds[4].fd = -1;
    else count += attend_poll(s, fds + count);
    struct __kernel_timespec left = {0, 0}, *limit = drain ? &left : 0;
    if (drain > 1) left.tv_nsec = 100000000; /* a full terminal: wait a little for it */
    ulong deadline = w->deadline;
    uint names = drain ? 0 : resolver_fds(fds + count, &deadline);
    if (deadline && !drain) {
        ulong now = now_ns(), ns = now < deadline ? deadline - now : 0;
        left.tv_sec = (long)(ns / 1000000000UL);
        left.tv_nsec = (long)(ns % 1000000000UL);
        limit = &left;
    }
    long ready = sys(ppoll, fds, count + names, limit, 0, 8);
    if (ready == 0 && drain) return 1;
    run_resolver(fds + count, names);
    if (ready == 0 && w->deadline && now_ns() >= w->deadline) {
        w->timed_out = 1;
        w->deadline = 0;
        pass_on(s, w, SIGKILL, 0);
    }
    for (uint i = 0; ready > 0 && i < s->relay_count; i++)
        if (fds[FIRST + i].revents) run_relay(s, w, &s->relays[i], fds[FIRST + i].events == POLLIN, fds[FIRST + i].events == POLLOUT);
    if (drain) return 0;
    if (count > FIRST + s->relay_count) attend_serve(s, fds + FIRST + s->relay_count);
    if (fds[4].revents) proxy_start();
    if (fds[1].revents && !obey(s, w)) {
        shut(s->orders);
        s->orders = -1;
        if (!s->detached) pass_on(s, w, SIGKILL, 0);
    }
    if (fds[3].revents) take_signal(s, w);
    if (fds[5].revents) { /* exec, whose container ended: without a PID namespace the kernel does not do it */
        kill_init(s);
        shut(s->slots[SLOT_TARGET]);
        s->slots[SLOT_TARGET] = -1;
    }
    if (fds[2].revents) {
        uint words[1];
        long n = hear(s, words, 1);
        if (n < 0 && n != -ECHILD) return n;
        if (n == 4 && words[0] == SAYS_STARTED) s->started = 1;
        if (n < 0) { /* closed: it went through exec, or it died */
            if (s->started) say_started(s);
            shut(s->peer);
            s->peer = -1;
            for (uint number = 1; number <= 64; number++)
                if (w->early & SIGBIT(number)) pass_on(s, w, number, 0);
        }
        return 0;
    }
    return fds[0].revents != 0;
}

/* What the command wrote before it ended; bounded, for a process that lives on outside the PID namespace. */
static void drain(struct state *s, struct watch *w) {
    for (int round = 0, full; round < 10000 && s->relay_count; round++) {
        full = 0;
        for (uint i = 0; i < s->relay_count; i++) full |= s->relays[i].to >= 0 && s->relays[i].start < s->relays[i].end;
        if (watch_once(s, w, full ? 2 : 1) && (!full || (round += 500) > 10000)) break;
    }
}

static void record_end(struct state *s, struct watch *w, ulong began) {
    struct ending info;
    struct usage usage;
    memset(&info, 0, sizeof info);
    memset(&usage, 0, sizeof usage);
    sys(waitid, 1 /* P_PID */, s->init_pid, &info, WEXITED | 0x40000000, &usage);
    shut(s->init_fd);
    s->init_fd = -1;
    s->exit_code = w->killed_by ? 128 + w->killed_by : (uint)exit_code(&info);
    ulong wall = now_ns() - began;
    ulong user = (ulong)usage.utime_s * 1000000 + (ulong)usage.utime_us;
    ulong system = (ulong)usage.stime_s * 1000000 + (ulong)usage.stime_us;
    uint words[] = {SAYS_EXITED, s->exit_code, info.code != 1, w->timed_out,
                    (uint)wall, (uint)(wall >> 32), (uint)user, (uint)(user >> 32),
                    (uint)system, (uint)(system >> 32), (uint)usage.maxrss_kib, s->started};
    tell(s, words, 12);
    struct end told = {s->exit_code, words[2], w->timed_out, words[10], wall, user, system};
    ended_know(&told);
    if (w->timed_out && s->on_failure) sys(write, 2, w->plan->timeout_text.s, w->plan->timeout_text.n);
}

/* In the caller's place we get the caller's signals, all but those it ignores; else orders come through the pipe. */
static void watch_signals(struct state *s, struct watch *w) {
    ulong wanted = SIGBIT(SIGWINCH);
    if (s->detached) wanted = SIGBIT(SIGTERM) | SIGBIT(SIGINT) | SIGBIT(SIGHUP) | SIGBIT(SIGQUIT);
    if (s->on_failure) {
        wanted = ~(SIGBIT(SIGCHLD) | SIGBIT(SIGPIPE) | SIGBIT(SIGURG) | SIGBIT(SIGCONT) | SIGBIT(SIGTTIN) | SIGBIT(SIGTTOU));
        for (uint n = 1; n <= 31; n++) {
            struct { ulong handler, flags, restorer, mask; } action = {0, 0, 0, 0};
            if (sys(rt_sigaction, n, 0, &action, 8) == 0 && action.handler == 1) w->ignored |= SIGBIT(n);
        }
    }
    w->signals = (int)sys(signalfd4, -1, &wanted, 8, O_CLOEXEC | O_NONBLOCK);
}

static int is_pipe(int fd) {
    struct statx st;
    return sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0 && (st.stx_mode & S_IFMT) == S_IFIFO;
}

/* Our own opening of a terminal or pipe of the caller's, so that a full one (Ctrl-S) does not keep us from everything
 * else. A file's position must stay the caller's, and a socket cannot be opened. */
static void reopen(struct channel *relay) {
    char path[] = "/proc/self/fd/0";
    struct termios modes;
    if (relay->to < 0 || relay->to > 2) return;
    path[14] = (char)('0' + relay->to);
    long own = -1;
    if (sys(ioctl, relay->to, TCGETS, &modes) == 0 || is_pipe(relay->to))
        own = open_at(AT_FDCWD, path, O_WRONLY | O_NOCTTY | O_NONBLOCK, 0);
    if (own >= 0) relay->to = (int)own;
    relay->slow = own < 0;
}

long supervise(struct state *s, const struct step *step) {
    ARGUMENTS(supervise);
    ulong began = now_ns();
    struct watch w;
    memset(&w, 0, sizeof w);
    w.plan = a;
    w.deadline = a->timeout_ms.n ? began + a->timeout_ms.n * 1000000UL : 0;
    static const uint theirs[] = {SLOT_IN_READ, SLOT_OUT_WRITE, SLOT_ERR_WRITE};
    for (uint i = 0; i < 3; i++) { shut(s->slots[theirs[i]]); s->slots[theirs[i]] = -1; } /* the command has its copy */
    for (uint i = 0; i < s->relay_count; i++) reopen(&s->relays[i]);
    attend_start(s);
    watch_signals(s, &w);
    int pty = s->slots[SLOT_PTY];
    if (pty >= 0) copy_window(pty);
    w.terminal = pty >= 0 && s->on_failure && sys(ioctl, 0, TCGETS, &w.saved) == 0;
    for (uint i = 0; i < s->relay_count && w.terminal; i++)
        if (s->relays[i].from == 0) { raw_terminal(&w); w.terminal = 2; }
    w.terminal = w.terminal == 2;
    long end;
    while (!(end = watch_once(s, &w, 0)));
    if (end > 0) {
        long n = 0; /* what it said last: a failure, or that it went through exec */
        uint words[1];
        while (s->peer >= 0 && (n = hear(s, words, 1)) > 0) s->started |= words[0] == SAYS_STARTED;
        if (s->peer >= 0 && n != -ECHILD) end = n;
        drain(s, &w);
    }
    if (w.terminal) sys(ioctl, 0, TCSETSW, &w.saved);
    attend_end();
    helper_end();
    if (end < 0) return end;
    record_end(s, &w, began);
    return 0;
}

/* Until the first process waits for its start, or has become the command. */
long await_ready(struct state *s, uint running) {
    uint words[1];
    long n;
    while ((n = hear(s, words, 1)) > 0) {
        if (!running) return 0;
        s->started |= words[0] == SAYS_STARTED;
    }
    if (n != -ECHILD || !s->started) return n;
    shut(s->peer);
    s->peer = -1;
    say_started(s);
    return 0;
}
