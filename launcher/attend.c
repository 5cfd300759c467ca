/* Those who attach to a container, its health, and what the supervisor becomes when all is over. */
#include "launcher.h"

#define MAX_CLIENTS 16
#define PACKET_ROOM 262144 /* more than a socket lets one send at once, unless its buffer was made larger */

static struct {
    const struct attend *plan;
    struct step step;
    int listener, timer, health_fd, health_pid;
    struct client { int fd; uint waits; } clients[MAX_CLIENTS]; /* waits: it has data for a command that reads slowly */
    uint end_of_input;                                          /* as soon as `data` is read */
    uint from, to;                                              /* of `data`, what was not read yet */
} us = {.listener = -1, .timer = -1, .health_fd = -1};
static char data[PACKET_ROOM];

/* Leave the caller: what it waits for ends here, and the supervisor is nobody's child. */
static long leave_caller(void) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    long r = sys(clone3, &args, sizeof args);
    if (r == -ENOSYS) r = sys(clone, SIGCHLD, 0, 0, 0, 0); /* a filter says so */
    if (r > 0) leave(0);
    if (r == 0) r = sys(setsid);
    return r < 0 ? r : null_stdio();
}

long null_stdio(void) {
    int null = (int)open_at(AT_FDCWD, "/dev/null", O_RDWR, 0);
    if (null < 0) return null;
    for (int fd = 0; fd < 3; fd++)
        if (fd != null) sys(dup3, null, fd, 0);
    if (null > 2) shut(null);
    return 0;
}

long attend(struct state *s, const struct step *step) {
    us.step = *step;
    const struct attend *a = us.plan = (const struct attend *)us.step.arguments;
    char directory[4096];
    long r = 0;
    for (uint i = 0; i < MAX_CLIENTS; i++) us.clients[i].fd = -1;
    if (a->detached.n) {
        r = leave_caller();
        s->detached = 1;
    }
    if (r >= 0 && *a->name.s) sys(prctl, PR_SET_NAME, a->name.s, 0, 0, 0);
    if (r >= 0) r = log_begin(a->logs.s, a->log_bytes.n, a->log_count.n);
    if (r < 0) return r;
    s->argument = 3;
    const char *name = split_path(a->socket.s, directory);
    r = bound_socket(directory, name, 5 /* SOCK_SEQPACKET */, 0600);
    if (r >= 0) us.listener = (int)r;
    if (r >= 0) r = sys(listen, us.listener, MAX_CLIENTS);
    if (r >= 0) r = sys(fcntl, us.listener, F_SETFL, O_NONBLOCK);
    if (r < 0) return r;
    s->argument = 4;
    return ended_begin(a->ended.s);
}

static void set_timer(void) {
    struct __kernel_itimerspec when = {{0, 0}, {(long)(us.plan->health_ms.n / 1000), (long)(us.plan->health_ms.n % 1000) * 1000000}};
    sys(timerfd_settime, us.timer, 0, &when, 0);
}

void attend_start(struct state *s) {
    if (!us.plan) return;
    static const uint fed[] = {SLOT_IN_WRITE, SLOT_PTY};
    for (uint i = 0; i < 2; i++)
        if (s->slots[fed[i]] >= 0) sys(fcntl, s->slots[fed[i]], F_SETFL, O_NONBLOCK);
    if (!us.plan->health.n || !us.plan->health_ms.n) return;
    us.timer = (int)sys(timerfd_create, 1 /* CLOCK_MONOTONIC */, O_CLOEXEC | O_NONBLOCK);
    set_timer();
}

static int input_of(const struct state *s) {
    return s->slots[SLOT_PTY] >= 0 ? s->slots[SLOT_PTY] : s->slots[SLOT_IN_WRITE];
}

static void close_input(struct state *s) {
    us.from = us.to = us.end_of_input = 0;
    shut(s->slots[SLOT_IN_WRITE]); /* a terminal stays: there the end is a character that is typed */
    s->slots[SLOT_IN_WRITE] = -1;
}

/* What arrived goes to the command, as far as it reads; the rest is kept, and then nobody's data is taken. */
static void feed(struct state *s) {
    while (us.from < us.to) {
        long n = input_of(s) < 0 ? -EPIPE : sys(write, input_of(s), data + us.from, us.to - us.from);
        if (n == -EINTR) continue;
        if (n == -EAGAIN) return;
        if (n < 0) {
            close_input(s); /* the command wants no more */
            break;
        }
        us.from += (uint)n;
    }
    us.from = us.to = 0;
    for (uint i = 0; i < MAX_CLIENTS; i++) us.clients[i].waits = 0;
    if (us.end_of_input) close_input(s);
}

static void resize(const struct state *s, const char *packet) {
    struct { unsigned short rows, columns, x, y; } size = {0, 0, 0, 0};
    memcpy(&size, packet, 4);
    if (s->slots[SLOT_PTY] >= 0) sys(ioctl, s->slots[SLOT_PTY], TIOCSWINSZ, &size);
}

/* One packet. The first byte says what it is. */
static void hear_client(struct state *s, struct client *client) {
    static char small[8];
    char kind = 0;
    long n = sys(recvfrom, client->fd, &kind, 1, 2 /* MSG_PEEK */ | 0x40 /* MSG_DONTWAIT */, 0, 0);
    if (n == -EAGAIN || n == -EINTR) return;
    if (n == 1 && kind == 'd' && us.from < us.to) {
        client->waits = 1;
        return;
    }
    int feeds = n == 1 && kind == 'd';
    if (n == 1) n = sys(recvfrom, client->fd, feeds ? data : small, feeds ? sizeof data : sizeof small, 0x60 /* and MSG_TRUNC */, 0, 0);
    if (n <= 0 || n > (long)sizeof data) { /* gone, or a packet that cannot be taken whole */
        shut(client->fd);
        client->fd = -1;
    } else if (feeds) {
        us.from = 1;
        us.to = us.end_of_input ? 1 : (uint)n;
        feed(s);
    } else if (kind == 'e') {
        us.end_of_input = s->slots[SLOT_PTY] < 0;
        if (us.from == us.to && us.end_of_input) close_input(s);
    } else if (kind == 'w' && n == 5) {
        resize(s, small + 1);
    }
}

static void accept_client(void) {
    for (uint i = 0; i < MAX_CLIENTS; i++) {
        if (us.clients[i].fd >= 0) continue;
        long fd = sys(accept4, us.listener, 0, 0, O_CLOEXEC);
        us.clients[i].fd = fd < 0 ? -1 : (int)fd;
        us.clients[i].waits = 0;
        return;
    }
}

static void begin_health(const struct state *s) {
    static char *argv[256];
    ulong ticks;
    sys(read, us.timer, &ticks, sizeof ticks);
    if (list_strings(&us.plan->health, argv, 256) <= 0) return;
    int maker = (int)sys(getpid);
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD;
    args.pidfd = (ulong)&us.health_fd;
    args.exit_signal = SIGCHLD;
    long child = sys(clone3, &args, sizeof args);
    if (child == 0) {
        null_stdio();
        if (end_with(maker) == 0) exec_clean(argv, s->environment);
        leave(127);
    }
    us.health_pid = (int)child;
    if (child < 0) {
        us.health_fd = -1;
        set_timer();
    }
}

static void end_health(void) {
    sys(wait4, us.health_pid, 0, 0, 0);
    shut(us.health_fd);
    us.health_fd = -1;
    set_timer();
}

uint attend_poll(const struct state *s, struct pollfd *fds) {
    int room = 0, full = us.from < us.to;
    if (!us.plan) return 0;
    for (uint i = 0; i < MAX_CLIENTS; i++) {
        struct client *client = &us.clients[i];
        room |= client->fd < 0;
        fds[3 + i] = (struct pollfd){client->waits ? -1 : client->fd, POLLIN, 0};
    }
    fds[0] = (struct pollfd){room ? us.listener : -1, POLLIN, 0};
    fds[1] = (struct pollfd){full ? input_of(s) : -1, POLLOUT, 0};
    fds[2] = (struct pollfd){us.health_fd >= 0 ? us.health_fd : us.timer, POLLIN, 0};
    return 3 + MAX_CLIENTS;
}

void attend_serve(struct state *s, const struct pollfd *fds) {
    if (fds[1].revents) feed(s);
    for (uint i = 0; i < MAX_CLIENTS; i++)
        if (fds[3 + i].revents) hear_client(s, &us.clients[i]);
    if (fds[0].revents) accept_client();
    if (fds[2].revents && us.health_fd >= 0) end_health();
    else if (fds[2].revents) begin_health(s);
}

void attend_end(void) {
    for (uint i = 0; us.plan && i < MAX_CLIENTS; i++) shut(us.clients[i].fd);
    shut(us.listener);
    shut(us.timer);
    us.listener = us.timer = -1;
    if (us.health_fd >= 0) {
        struct pollfd gone = {us.health_fd, POLLIN, 0};
        struct __kernel_timespec limit = {1, 0};
        sys(pidfd_send_signal, us.health_fd, SIGKILL, 0, 0);
        sys(ppoll, &gone, 1, &limit, 0, 8);
        sys(wait4, us.health_pid, 0, WNOHANG, 0);
    }
    log_end();
}

void become_after(const struct state *s) {
    static char *argv[256];
    if (!us.plan || !ended_known() || list_strings(&us.plan->after, argv, 256) <= 0) return;
    null_stdio();
    exec_clean(argv, s->environment);
}
