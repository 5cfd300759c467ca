/* Steps that configure the network. The messages are made by src/kist/plan/rtnetlink.py. */
#include "launcher.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_NETLINK 16
#define SOCK_RAW 3
#define SOCK_DGRAM 2
#define SOCK_CLOEXEC 02000000
#define MSG_DONTWAIT 0x40
#define SOL_NETLINK 270
#define NETLINK_ROUTE 0
#define NETLINK_NETFILTER 12
#define UNKNOWN 0xffffffff

struct interface { char name[16]; union { short flags; int index; char rest[24]; }; };
struct datagram { uint size; unsigned short type, flags; uint sequence, port, body[]; };
struct attribute { unsigned short size, kind; char data[]; };
enum { ANSWER_TYPE = 2, ANSWER_ACK = 4, ANSWER_CAPPED = 0x100, ANSWER_EXPLAINED = 0x200, ANSWER_WORDS = 1 };

static long name_interface(struct interface *i, const char *name) {
    memset(i, 0, sizeof *i);
    if (length(name) >= sizeof i->name) return -ENAMETOOLONG;
    memcpy(i->name, name, length(name));
    return 0;
}

static long loopback_up(const struct step *step) {
    ARGUMENTS(link_up);
    struct interface request;
    long r = name_interface(&request, a->name.s);
    int fd = r < 0 ? (int)r : (int)sys(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    r = sys(ioctl, fd, 0x8913 /* SIOCGIFFLAGS */, &request);
    request.flags |= 1 /* IFF_UP */;
    if (r == 0) r = sys(ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &request);
    shut(fd);
    return r;
}

/* A netlink socket belongs to the network namespace in which it is made, for good. */
static long netlink_socket(int namespace, int protocol) {
    if (namespace < 0) return sys(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    int own = (int)open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0);
    if (own < 0) return own;
    long r = sys(setns, namespace, CLONE_NEWNET);
    if (r == 0) {
        int fd = (int)sys(socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
        r = sys(setns, own, CLONE_NEWNET);
        if (r == 0) r = fd;
    }
    shut(own);
    return r;
}

/* A refusal: which message it is about, and what the kernel says besides (extended ACK). */
static long refusal(struct state *s, const struct datagram *answer) {
    s->argument = 2 | answer->sequence << 8;
    uint at = 16 + 4 + (answer->flags & ANSWER_CAPPED ? 16 : (answer->body[1] + 3) & ~3U);
    while (answer->flags & ANSWER_EXPLAINED && at + 4 < answer->size) {
        const struct attribute *a = (const struct attribute *)((const char *)answer + at);
        if (a->size < 4 || at + a->size > answer->size) break;
        if (a->kind == ANSWER_WORDS) memcpy(s->words, a->data, a->size - 4U < sizeof s->words ? a->size - 4U : sizeof s->words - 1);
        at += (a->size + 3U) & ~3U;
    }
    return (int)answer->body[0];
}

/* All answers are there when sendto has returned: the kernel takes the messages in the course of that call. */
static long answers(struct state *s, int fd, uint expected) {
    static union { struct datagram first; char bytes[32768]; } room;
    while (expected) {
        long n = sys(recvfrom, fd, &room, sizeof room, MSG_DONTWAIT, 0, 0);
        if (n < 0) return n;
        for (uint at = 0; at + 20 <= (uint)n;) {
            const struct datagram *m = (const struct datagram *)(room.bytes + at);
            if (m->size < 16 || m->size > (uint)n - at) return -EPROTO;
            if (m->type == ANSWER_TYPE && m->size >= 20) {
                if ((int)m->body[0] < 0) return refusal(s, m);
                if (expected) expected--;
            }
            at += (m->size + 3) & ~3U;
        }
    }
    return 0;
}

static long send_messages(struct state *s, int fd, const struct netlink *a) {
    static union { struct datagram first; char bytes[65536]; } room;
    struct interface link;
    ulong total = a->messages.n;
    if (total > sizeof room) return -E2BIG;
    memcpy(&room, a->messages.s, total);
    if (a->target.n && (a->target_at.n & 3 || a->target_at.n + 4 > total)) return -EBADMSG;
    if (a->target.n) *(int *)(room.bytes + a->target_at.n) = s->slots[a->target.n];
    long r = name_interface(&link, a->link.s);
    if (r == 0 && *a->link.s) r = sys(ioctl, fd, 0x8933 /* SIOCGIFINDEX */, &link);
    uint expected = 0;
    for (ulong at = 0, from = 0; r >= 0 && at < total;) {
        struct datagram *m = (struct datagram *)(room.bytes + at);
        if (total - at < 16 || m->size < 16 || m->size > total - at) return -EBADMSG;
        if (*a->link.s && m->size >= 24 && m->body[1] == UNKNOWN) m->body[1] = (uint)link.index;
        expected += (m->flags & ANSWER_ACK) != 0;
        at += (m->size + 3) & ~3U;
        if (at < total && a->protocol.n != NETLINK_ROUTE) continue;
        r = sys(sendto, fd, room.bytes + from, at - from, 0, 0, 0);
        if (r >= 0) r = answers(s, fd, expected);
        from = at;
        expected = 0;
    }
    return r;
}

static long connect_netlink(const struct state *s, const struct netlink *a) {
    if (a->namespace.n && s->slots[a->namespace.n] < 0) return -EBADF; /* never in ours instead */
    int fd = (int)netlink_socket(a->namespace.n ? s->slots[a->namespace.n] : -1, (int)a->protocol.n), on = 1;
    if (fd < 0) return fd;
    sys(setsockopt, fd, SOL_NETLINK, 10 /* NETLINK_CAP_ACK */, &on, sizeof on);
    sys(setsockopt, fd, SOL_NETLINK, 11 /* NETLINK_EXT_ACK */, &on, sizeof on);
    return fd;
}

/* When something of nf_tables was deleted just now, by anybody, closing a socket of its waits 15 ms until no processor
 * reads that any more (linux/nf_tables_api.c, nft_rcv_nl_event). One in flight to itself is closed by the kernel's own
 * collector of such sockets, for which nobody waits; before Linux 6.8, nothing is won. */
static void let_go(int fd) {
    int pair[2];
    if (fd >= 0 && sys(socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0) {
        struct { ulong size; int level, type, fds[2]; } rights = {24, 1 /* SOL_SOCKET */, 1 /* SCM_RIGHTS */, {fd, pair[1]}};
        struct { const void *base; ulong size; } byte = {"", 1};
        struct { void *name; ulong name_size; void *vector; ulong count; void *control; ulong size; ulong flags; }
            message = {0, 0, &byte, 1, &rights, sizeof rights, 0};
        sys(sendmsg, pair[0], &message, MSG_NOSIGNAL);
        shut(pair[0]);
        shut(pair[1]);
    }
    shut(fd);
}

static int firewall = -1; /* the host's: kept by who may have things to undo by it */

/* Closed, unless it is kept: see let_go for why that of nf_tables takes more than a close. */
static long configure(struct state *s, const struct netlink *a) {
    int ours = a->protocol.n == NETLINK_NETFILTER && !a->namespace.n && (s->undo_count || firewall >= 0);
    int fd = ours && firewall >= 0 ? firewall : (int)connect_netlink(s, a);
    if (fd < 0) return fd;
    s->argument = 2;
    long r = send_messages(s, fd, a);
    if (ours) firewall = fd;
    else if (a->protocol.n == NETLINK_NETFILTER) let_go(fd);
    else shut(fd);
    return r < 0 ? r : 0;
}

static long netlink(struct state *s, const struct step *step) {
    ARGUMENTS(netlink);
    return a->at_end.n ? 0 : configure(s, a);
}

void undo_network(struct state *s, const struct step *step) {
    ARGUMENTS(netlink);
    if (!a->at_end.n) return;
    uint argument = s->argument; /* what is to be said is what failed before */
    char words[sizeof s->words];
    memcpy(words, s->words, sizeof words);
    configure(s, a);
    s->argument = argument;
    memcpy(s->words, words, sizeof words);
}

void network_undone(void) {
    let_go(firewall);
    firewall = -1;
}

static long open_namespace(struct state *s, const struct step *step) {
    ARGUMENTS(open_namespace);
    char directory[40], path[4096];
    expand(s, "/proc/$init_pid/ns", directory, sizeof directory);
    if (!path_in(path, directory, a->kind.s)) return -ENAMETOOLONG;
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    if (fd >= 0) s->slots[a->slot.n] = fd;
    return fd < 0 ? fd : 0;
}

static long lend(const struct step *step) {
    ARGUMENTS(lend);
    int fds[2] = {(int)netlink_socket(-1, NETLINK_ROUTE), (int)open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0)};
    long r = 0;
    for (int i = 0; i < 2; i++) {
        if (r == 0) r = fds[i] < 0 ? fds[i] : send_fd((int)a->socket.n, fds[i]);
        shut(fds[i]);
    }
    return r;
}

long take_network_step(struct state *s, const struct step *step) {
    switch (step->op) {
    case OP_LINK_UP: return loopback_up(step);
    case OP_OPEN_NAMESPACE: return open_namespace(s, step);
    case OP_NETLINK: return netlink(s, step);
    case OP_LEND: return lend(step);
    case OP_SEND_NAMESPACES: return send_namespaces(s);
    case OP_BESIDE: return beside(s, step);
    case OP_RESOLVE: return name_server(s, step);
    case OP_RELAY_LISTEN: return relay_listen(s, step);
    case OP_RELAY_START: return relay_start(s, step);
    case OP_PROXY: return proxy(step);
    }
    return -ENOSYS;
}
