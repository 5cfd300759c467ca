/* Inside a container with a relay, before the command: the sockets that it hands out. */
#include "relay.h"

#define GROUP 1 /* of nfnetlink_log */

typedef unsigned char byte;

static long listen_inside(int family, int kind, const struct endpoint *at) {
    int fd = (int)sys(socket, family, kind | SOCK_FLAGS, 0), off = 0;
    if (fd < 0) return fd;
    if (family == AF_INET6) sys(setsockopt, fd, 41, 26 /* IPV6_V6ONLY */, &off, sizeof off);
    long n = sys(bind, fd, at, family == AF_INET6 ? 28 : 16);
    if (n == 0 && kind == SOCK_STREAM) n = sys(listen, fd, 1024);
    if (n == 0) return fd;
    shut(fd);
    return n;
}

/* Source: linux/netfilter/nfnetlink_log.h. */
static long hear_dropped(void) {
    struct { uint size; unsigned short type, flags; uint sequence, port; byte family, version; unsigned short group;
             unsigned short length, kind; byte data[8]; } m;
    struct { unsigned short family, pad; uint port, groups; } kernel = {16, 0, 0, 0};
    int fd = (int)sys(socket, 16 /* AF_NETLINK */, 3 /* SOCK_RAW */ | SOCK_FLAGS, 12 /* NETLINK_NETFILTER */);
    for (int i = 0; fd >= 0 && i < 2; i++) {
        byte answer[256];
        int error;
        memset(&m, 0, sizeof m);
        m.type = 4 << 8 | 1;  /* NFULNL_MSG_CONFIG */
        m.flags = 1 | 4;      /* REQUEST, ACK */
        m.group = swapped(GROUP);
        m.kind = i ? 2 : 1;   /* how much of a packet; bind */
        m.length = i ? 10 : 5;
        m.data[0] = i ? 0 : 1;
        m.data[3] = 128;
        m.data[4] = 2;
        if (!i) m.data[3] = m.data[4] = 0;
        m.size = i ? 32 : 28;
        long n = sys(sendto, fd, &m, m.size, 0, &kernel, sizeof kernel);
        if (n >= 0) n = sys(recvfrom, fd, answer, sizeof answer, 0, 0, 0);
        if (n >= 0 && n < 20) n = -EPROTO;
        if (n >= 0) memcpy(&error, answer + 16, 4), n = error;
        if (n < 0) {
            shut(fd);
            return n;
        }
    }
    return fd;
}

/* Source: ip(7), Documentation/networking/tproxy.rst. */
static long listen_to_datagrams(const struct endpoint *any) {
    int fd = (int)sys(socket, any->family, SOCK_DGRAM | SOCK_FLAGS, 0), on = 1, off = 0;
    if (fd < 0) return fd;
    if (any->family == AF_INET6) {
        sys(setsockopt, fd, 41, 26 /* IPV6_V6ONLY */, &off, sizeof off);
        sys(setsockopt, fd, 41, 75 /* IPV6_TRANSPARENT */, &on, sizeof on);
        sys(setsockopt, fd, 41, 74 /* IPV6_RECVORIGDSTADDR */, &on, sizeof on);
    }
    long n = sys(setsockopt, fd, 0, 19 /* IP_TRANSPARENT */, &on, sizeof on);
    if (n == 0) n = sys(setsockopt, fd, 0, 20 /* IP_RECVORIGDSTADDR */, &on, sizeof on);
    if (n == 0) n = sys(bind, fd, any, any->family == AF_INET6 ? 28 : 16);
    if (n == 0) return fd;
    shut(fd);
    return n;
}

/* Takes the fd over; one that is negative is an error. */
static long hand_out(struct state *s, long fd) {
    if (fd < 0) return fd;
    long n = send_fd(s->peer, (int)fd);
    shut((int)fd);
    return n;
}

/* In the order in which relay_start and, without a policy, name_server take them. */
long relay_listen(struct state *s, const struct step *step) {
    ARGUMENTS(relay_listen);
    struct endpoint any = {AF_INET6, swapped((uint)a->port.n), {0}}, server = {AF_INET, swapped((uint)a->name_port.n), {127, 0, 0, 11}};
    long fd = listen_inside(AF_INET6, SOCK_STREAM, &any);
    if (fd < 0) {
        any.family = AF_INET; /* a host without IPv6 */
        fd = listen_inside(AF_INET, SOCK_STREAM, &any);
    }
    long n = hand_out(s, fd);
    if (n == 0 && !a->tells.n) n = hand_out(s, listen_to_datagrams(&any));
    if (n == 0 && a->tells.n) n = hand_out(s, listen_inside(AF_INET, SOCK_DGRAM, &server));
    if (n == 0 && a->tells.n) n = hand_out(s, hear_dropped());
    if (n == 0 && a->namespaces.n) n = hand_out(s, open_at(AT_FDCWD, "/proc/thread-self/ns/user", O_RDONLY, 0));
    if (n == 0 && a->namespaces.n) n = hand_out(s, open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0));
    if (n == 0 && !a->tells.n) n = hand_out(s, listen_inside(AF_INET, SOCK_DGRAM, &server));
    return n < 0 || a->tells.n ? n : hand_out(s, listen_inside(AF_INET, SOCK_STREAM, &server));
}
