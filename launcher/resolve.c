/* The container's name server: inside its network namespace, answered by its supervisor outside.
 *
 * Names of its networks come from files (names.c); what else is asked goes to the host's own servers, each question
 * from a socket of its own, so that neither port nor id can be guessed. */
#include "launcher.h"
#include "names.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_FLAGS (02000000 | 04000) /* CLOEXEC, NONBLOCK */
#define SOL_SOCKET 1
#define SO_ERROR 4
#define MOST_SERVERS 3
#define MOST_PENDING 64
#define MOST_STREAMS 8
#define SERVER_PATIENCE_NS 2000000000UL
#define STREAM_PATIENCE_NS 10000000000UL

struct address { unsigned short family, port; unsigned char bytes[24]; uint size; };
struct peer { unsigned short family, port; unsigned char bytes[12]; };

/* A question by UDP that was passed on. */
struct pending {
    int fd;
    unsigned short id;
    struct peer client;
    uint server, size, room;
    ulong deadline;
    unsigned char message[DNS_MOST];
};

/* A client by TCP. Messages have their size in front. */
struct stream {
    int client, server;
    enum { READS, ASKS, HEARS, WRITES } does;
    uint at, size;
    ulong deadline;
    unsigned char data[65537 + 2];
};

static struct resolver {
    int on, datagrams, listener;
    struct names names;
    struct address servers[MOST_SERVERS];
    uint server_count, turn;
    struct pending pending[MOST_PENDING];
    struct stream streams[MOST_STREAMS];
} r;

static unsigned short swapped(unsigned n) { return (unsigned short)((n & 255) << 8 | (n >> 8 & 255)); }

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* Hexadecimal digits, of 4 or 16 bytes. */
static long read_server(const char *text, struct address *out) {
    unsigned char bytes[16];
    uint n = 0;
    for (; text[0] && text[1] && n < 16; text += 2) {
        if (digit(text[0]) < 0 || digit(text[1]) < 0) return -EINVAL;
        bytes[n++] = (unsigned char)(digit(text[0]) << 4 | digit(text[1]));
    }
    if (*text || (n != 4 && n != 16)) return -EINVAL;
    memset(out, 0, sizeof *out);
    out->family = n == 4 ? AF_INET : AF_INET6;
    out->port = swapped(53);
    memcpy(out->bytes + (n == 4 ? 0 : 4), bytes, n);
    out->size = n == 4 ? 16 : 28;
    return 0;
}

/* A socket at 127.0.0.11:PORT in the namespace; a socket stays in the one where it is made. */
static long listen_there(int namespace, int kind, uint port) {
    struct peer here = {AF_INET, swapped(port), {127, 0, 0, 11}};
    int own = (int)open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0);
    if (own < 0) return own;
    long n = sys(setns, namespace, CLONE_NEWNET), back;
    int fd = n < 0 ? (int)n : (int)sys(socket, AF_INET, kind | SOCK_FLAGS, 0);
    if (n == 0 && (back = sys(setns, own, CLONE_NEWNET)) < 0) { shut(fd); fd = (int)back; }
    shut(own);
    if (fd < 0) return fd;
    int on = 1; /* the namespace's loopback interface comes up later */
    sys(setsockopt, fd, 0 /* IPPROTO_IP */, 15 /* IP_FREEBIND */, &on, sizeof on);
    n = sys(bind, fd, &here, sizeof here);
    if (n == 0 && kind == SOCK_STREAM) n = sys(listen, fd, 16);
    if (n == 0) return fd;
    shut(fd);
    return n;
}

long name_server(struct state *s, const struct step *step) {
    ARGUMENTS(resolve);
    int namespace = s->slots[a->namespace.n];
    char *servers[8];
    long n = list_strings(&a->servers, servers, 7);
    for (long i = 0; i < n && r.server_count < MOST_SERVERS; i++)
        if (read_server(servers[i], &r.servers[r.server_count]) == 0) r.server_count++;
    r.names = (struct names){a->names.s, a->networks.s, a->run.s};
    n = a->namespace.n ? listen_there(namespace, SOCK_DGRAM, (uint)a->port.n) : receive_fd(s);
    if (n < 0) return n;
    r.datagrams = (int)n;
    n = a->namespace.n ? listen_there(namespace, SOCK_STREAM, (uint)a->port.n) : receive_fd(s);
    if (n < 0) return n;
    r.listener = (int)n;
    for (uint i = 0; i < MOST_PENDING; i++) r.pending[i].fd = -1;
    for (uint i = 0; i < MOST_STREAMS; i++) r.streams[i].client = r.streams[i].server = -1;
    r.on = 1;
    return 0;
}

/* --- by UDP */

static void reply(const struct peer *client, const unsigned char *message, uint size) {
    sys(sendto, r.datagrams, message, size, MSG_NOSIGNAL, client, sizeof *client);
}

static void forget(struct pending *p) {
    shut(p->fd);
    p->fd = -1;
}

/* To the next server that takes it; when there is none left, the client hears that it failed. */
static void pass_on(struct pending *p) {
    for (; p->server < r.server_count; p->server++) {
        const struct address *to = &r.servers[p->server];
        shut(p->fd);
        p->fd = (int)sys(socket, to->family, SOCK_DGRAM | SOCK_FLAGS, 0);
        if (p->fd < 0 || sys(connect, p->fd, to, to->size) < 0) continue;
        unsigned short id;
        sys(getrandom, &id, 2, 0);
        memcpy(p->message, &id, 2);
        if (sys(sendto, p->fd, p->message, p->size, MSG_NOSIGNAL, 0, 0) < 0) continue;
        p->deadline = now_ns() + SERVER_PATIENCE_NS;
        return;
    }
    struct question q;
    memcpy(p->message, &p->id, 2);
    int code = read_question(p->message, p->size, &q);
    reply(&p->client, p->message, answer_empty(p->message, &q, code ? code : SERVER_FAILED));
    forget(p);
}

static struct pending *spare(void) {
    struct pending *oldest = &r.pending[0];
    for (uint i = 0; i < MOST_PENDING; i++) {
        if (r.pending[i].fd < 0) return &r.pending[i];
        if (r.pending[i].deadline < oldest->deadline) oldest = &r.pending[i];
    }
    forget(oldest); /* its client asks again */
    return oldest;
}

/* The whole answer in place of the question, or 0: somebody else knows. */
static uint answer_here(unsigned char *message, ulong size, struct question *q, uint limit) {
    int code = read_question(message, size, q);
    if (code) return answer_empty(message, q, code);
    uint n = answer_own(message, q, &r.names, limit ? limit : q->room, r.turn++);
    if (!n && !r.server_count) n = answer_empty(message, q, NO_SUCH_NAME);
    return n;
}

static void take_datagrams(void) {
    static unsigned char message[DNS_MOST];
    for (int round = 0; round < 64; round++) {
        struct peer client;
        uint size = sizeof client;
        struct question q;
        long n = sys(recvfrom, r.datagrams, message, sizeof message, 0, &client, &size);
        if (n < 0) return;
        if (n < 12 || message[2] & 0x80) continue; /* nothing to answer; never answer an answer */
        uint done = answer_here(message, (ulong)n, &q, 0);
        if (done) {
            reply(&client, message, done);
            continue;
        }
        struct pending *p = spare();
        memcpy(&p->id, message, 2);
        memcpy(p->message, message, (ulong)n);
        p->client = client;
        p->size = (uint)n;
        p->room = q.room;
        p->server = 0;
        pass_on(p);
    }
}

static void take_answer(struct pending *p) {
    static unsigned char message[65536];
    long n = sys(read, p->fd, message, sizeof message);
    if (n == -EAGAIN || n == -EINTR) return;
    int refused = n >= 12 && ((message[3] & 15) == SERVER_FAILED || (message[3] & 15) == REFUSED);
    if (n < 0 || (refused && p->server + 1 < r.server_count)) {
        p->server++;
        pass_on(p);
        return;
    }
    if (n < 12 || !(message[2] & 0x80) || message[0] != p->message[0] || message[1] != p->message[1]) return;
    memcpy(message, &p->id, 2);
    if ((uint)n > p->room) { /* more than the client takes: it asks again by TCP */
        struct question q;
        memcpy(p->message, &p->id, 2);
        if (read_question(p->message, p->size, &q) == 0) {
            n = answer_empty(p->message, &q, ANSWERED);
            p->message[2] |= 2;
            memcpy(message, p->message, (ulong)n);
        }
    }
    reply(&p->client, message, (uint)n);
    forget(p);
}

/* --- by TCP */

static void end_stream(struct stream *c) {
    shut(c->client);
    shut(c->server);
    c->client = c->server = -1;
}

static void take_client(void) {
    int fd = (int)sys(accept4, r.listener, 0, 0, SOCK_FLAGS);
    if (fd < 0) return;
    struct stream *c = &r.streams[0];
    for (uint i = 0; i < MOST_STREAMS; i++) {
        if (r.streams[i].client < 0) { c = &r.streams[i]; break; }
        if (r.streams[i].deadline < c->deadline) c = &r.streams[i];
    }
    end_stream(c);
    c->client = fd;
    c->does = READS;
    c->at = c->size = 0;
    c->deadline = now_ns() + STREAM_PATIENCE_NS;
}

/* A whole question is there: data[0..2) its size. */
static void ask(struct stream *c) {
    struct question q;
    uint size = (uint)c->data[0] << 8 | c->data[1], done = answer_here(c->data + 2, size, &q, 60000);
    c->at = 0;
    if (done) {
        c->data[0] = (unsigned char)(done >> 8);
        c->data[1] = (unsigned char)done;
        c->size = done + 2;
        c->does = WRITES;
        return;
    }
    for (uint i = 0; i < r.server_count; i++) {
        const struct address *to = &r.servers[i];
        shut(c->server);
        c->server = (int)sys(socket, to->family, SOCK_STREAM | SOCK_FLAGS, 0);
        long n = c->server < 0 ? c->server : sys(connect, c->server, to, to->size);
        if (n == 0 || n == -EINPROGRESS) {
            c->size = size + 2;
            c->does = ASKS;
            return;
        }
    }
    end_stream(c);
}

/* Read until `size` bytes are there, or one message when that is 0. 1: they are, -1: it is over, 0: not yet. */
static int read_message(struct stream *c, int fd) {
    for (;;) {
        uint wanted = c->at < 2 ? 2 : 2 + ((uint)c->data[0] << 8 | c->data[1]);
        if (c->at >= 2 && c->at == wanted) return wanted > 14 ? 1 : -1;
        long n = sys(read, fd, c->data + c->at, wanted - c->at);
        if (n == -EAGAIN || n == -EINTR) return 0;
        if (n <= 0) return -1;
        c->at += (uint)n;
    }
}

static int write_message(struct stream *c, int fd) {
    while (c->at < c->size) {
        long n = sys(sendto, fd, c->data + c->at, c->size - c->at, MSG_NOSIGNAL, 0, 0);
        if (n == -EAGAIN || n == -EINTR) return 0;
        if (n <= 0) return -1;
        c->at += (uint)n;
    }
    return 1;
}

static void run_stream(struct stream *c) {
    int done = c->does == READS ? read_message(c, c->client) : c->does == ASKS ? write_message(c, c->server)
             : c->does == HEARS ? read_message(c, c->server) : write_message(c, c->client);
    if (done < 0) end_stream(c);
    if (done <= 0) return;
    if (c->does == READS) {
        ask(c);
        return;
    }
    if (c->does == HEARS) {
        c->size = c->at;
        c->does = WRITES;
    } else if (c->does == ASKS) {
        c->does = HEARS;
    } else {
        shut(c->server);
        c->server = -1;
        c->does = READS;
    }
    c->at = 0;
    c->deadline = now_ns() + STREAM_PATIENCE_NS;
}

/* --- for the supervisor's loop */

uint resolver_fds(struct pollfd *fds, ulong *deadline) {
    if (!r.on) return 0;
    uint n = 0;
    fds[n++] = (struct pollfd){r.datagrams, POLLIN, 0};
    fds[n++] = (struct pollfd){r.listener, POLLIN, 0};
    for (uint i = 0; i < MOST_PENDING; i++) {
        struct pending *p = &r.pending[i];
        if (p->fd < 0) continue;
        fds[n++] = (struct pollfd){p->fd, POLLIN, 0};
        if (!*deadline || p->deadline < *deadline) *deadline = p->deadline;
    }
    for (uint i = 0; i < MOST_STREAMS; i++) {
        struct stream *c = &r.streams[i];
        if (c->client < 0) continue;
        int fd = c->does == READS || c->does == WRITES ? c->client : c->server;
        fds[n++] = (struct pollfd){fd, c->does == READS || c->does == HEARS ? POLLIN : POLLOUT, 0};
        if (!*deadline || c->deadline < *deadline) *deadline = c->deadline;
    }
    return n;
}

static int is_ready(const struct pollfd *fds, uint count, int fd) {
    for (uint i = 0; i < count; i++)
        if (fds[i].fd == fd) return fds[i].revents != 0;
    return 0;
}

void run_resolver(const struct pollfd *fds, uint count) {
    if (!count) return;
    ulong now = now_ns();
    for (uint i = 0; i < MOST_PENDING; i++) {
        struct pending *p = &r.pending[i];
        if (p->fd < 0) continue;
        if (is_ready(fds, count, p->fd)) take_answer(p);
        else if (now >= p->deadline) {
            p->server++;
            pass_on(p);
        }
    }
    for (uint i = 0; i < MOST_STREAMS; i++) {
        struct stream *c = &r.streams[i];
        if (c->client < 0) continue;
        int fd = c->does == READS || c->does == WRITES ? c->client : c->server;
        if (is_ready(fds, count, fd)) run_stream(c);
        else if (now >= c->deadline) end_stream(c);
    }
    if (fds[0].revents) take_datagrams();
    if (fds[1].revents) take_client();
}
