/* Datagrams of a container whose relay lets all through, and those to published ports. The first of a flow arrives at one
 * socket for all (inside, by nftables' tproxy; outside, at the port); then sockets of the flow's own, the first of them
 * bound to where it was sent to, have the rest and the answers. */
#include "relay.h"

#define MOST_FLOWS 512
#define IDLE_NS 120000000000UL

typedef unsigned char byte;

struct flow {
    int inside, outside;    /* -1: a free place */
    struct address client, to;
    uint client_port, port;
    ulong used;
};

static struct flow flows[MOST_FLOWS];
static int first; /* gets the first of each flow */

struct header { void *name; uint name_size, pad; struct { void *at; ulong size; } *parts; ulong part_count; void *control;
                ulong control_size; uint flags, pad2; };
struct control { ulong length; int level, type; union { struct endpoint to; byte bytes[28]; }; };

long datagrams_begin(int fd) {
    first = fd;
    for (uint i = 0; i < MOST_FLOWS; i++) flows[i].inside = flows[i].outside = -1;
    return fd < 0 ? 0 : watch(fd, DATAGRAMS, 0, POLLIN);
}

/* Whether it is a socket for datagrams, which from now on says where each was sent to. Others may use its port, too: the
 * flows' own sockets. Who made it has seen that nobody does. */
int publish_datagrams(int fd) {
    int kind = 0, on = 1;
    uint size = sizeof kind;
    if (sys(getsockopt, fd, 1 /* SOL_SOCKET */, 3 /* SO_TYPE */, &kind, &size) < 0 || kind != SOCK_DGRAM) return 0;
    sys(setsockopt, fd, 1, 2 /* SO_REUSEADDR */, &on, sizeof on);
    sys(setsockopt, fd, 0, 8 /* IP_PKTINFO */, &on, sizeof on);
    sys(setsockopt, fd, 41, 49 /* IPV6_RECVPKTINFO */, &on, sizeof on);
    return 1;
}

static void forget(struct flow *f) {
    shut(f->inside);
    shut(f->outside);
    f->inside = f->outside = -1;
}

static int equal(const struct address *a, const struct address *b) {
    for (int i = 0; i < 16; i++)
        if (a->bytes[i] != b->bytes[i]) return 0;
    return 1;
}

static struct flow *place_for(const struct flow *wanted) {
    struct flow *place = &flows[0];
    for (uint i = 0; i < MOST_FLOWS; i++) {
        struct flow *f = &flows[i];
        if (f->inside < 0) place = f;
        else if (f->port == wanted->port && f->client_port == wanted->client_port && equal(&f->to, &wanted->to) &&
                 equal(&f->client, &wanted->client)) return f;
        else if (place->inside >= 0 && f->used < place->used) place = f;
    }
    return place;
}

static int is_for_many(const struct address *a) {
    return is_v4(a) ? a->bytes[12] >= 224 : a->bytes[0] == 0xff;
}

static long connected(const struct flow *f) {
    struct endpoint to;
    ulong size = endpoint_of(&to, &f->to, f->port);
    int fd = (int)sys(socket, to.family, SOCK_DGRAM | SOCK_FLAGS, 0);
    long n = fd < 0 ? fd : sys(connect, fd, &to, size);
    if (n == 0) return fd;
    shut(fd);
    return n;
}

/* At a published port, for one client: the kernel gives it what that client sends. */
static long reserved(const struct flow *f) {
    struct endpoint here, client;
    ulong size = endpoint_of(&here, &f->to, f->port);
    int fd = (int)sys(socket, here.family, SOCK_DGRAM | SOCK_FLAGS, 0), on = 1;
    if (fd < 0) return fd;
    endpoint_of(&client, &f->client, f->client_port);
    sys(setsockopt, fd, 1 /* SOL_SOCKET */, 2 /* SO_REUSEADDR */, &on, sizeof on);
    long n = sys(bind, fd, &here, size);
    if (n == 0) n = sys(connect, fd, &client, size);
    if (n == 0) return fd;
    shut(fd);
    return n;
}

/* 0: there is no such flow, and none can be. `target`: a published port's, of the container's own address. */
static struct flow *flow_of(struct flow *wanted, uint target) {
    struct flow *f = place_for(wanted);
    if (f->inside >= 0 && f->port == wanted->port && equal(&f->to, &wanted->to) && f->client_port == wanted->client_port) return f;
    forget(f);
    struct wish wish = {1, 0, {0, 0, {0}}, {0, 0, {0}}};
    if (target) {
        wish.size = (uint)endpoint_of(&wish.from, &own_address, 0);
        endpoint_of(&wish.to, &own_address, target);
    } else {
        wish.size = (uint)endpoint_of(&wish.from, &wanted->to, wanted->port);
        endpoint_of(&wish.to, &wanted->client, wanted->client_port);
    }
    wanted->outside = (int)(target ? reserved(wanted) : connected(wanted));
    if (wanted->outside < 0) return 0;
    wanted->inside = (int)open_inside(&wish);
    *f = *wanted;
    uint index = (uint)(f - flows);
    if (f->inside >= 0 && watch(f->inside, FLOW_INSIDE, index, POLLIN) == 0 && watch(f->outside, FLOW_OUTSIDE, index, POLLIN) == 0) return f;
    forget(f);
    return 0;
}

/* Where it was sent to, as far as the control message says. */
static int read_destination(const struct control *c, struct flow *f) {
    static const byte v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    if ((c->level == 0 && c->type == 20 /* IP_ORIGDSTADDR */) || (c->level == 41 && c->type == 74)) {
        read_endpoint(&c->to, &f->to, &f->port);
    } else if (c->level == 0 && c->type == 8 /* IP_PKTINFO: the interface, our address */) {
        memcpy(f->to.bytes, v4, 12);
        memcpy(f->to.bytes + 12, c->bytes + 4, 4);
    } else if (c->level == 41 && c->type == 50 /* IPV6_PKTINFO */) {
        memcpy(f->to.bytes, c->bytes, 16);
    } else {
        return 0;
    }
    return 1;
}

/* The first of flows: of the container's, at -1, or at a published port. */
void take_datagrams(int listener, uint target) {
    static byte data[65536];
    struct endpoint here;
    uint size = sizeof here;
    if (target) sys(getsockname, listener, &here, &size);
    for (int round = 0; round < 64; round++) {
        struct endpoint from;
        struct { void *at; ulong size; } part = {data, sizeof data};
        union { struct control first; byte room[256]; } control;
        struct header m = {&from, sizeof from, 0, (void *)&part, 1, &control, sizeof control, 0, 0};
        long n = sys(recvmsg, target ? listener : first, &m, 0x40000000 /* MSG_CMSG_CLOEXEC */);
        if (n < 0) return;
        struct flow wanted;
        struct address ignored;
        memset(&wanted, 0, sizeof wanted);
        if (target) read_endpoint(&here, &ignored, &wanted.port);
        if (m.control_size < 28 || !read_destination(&control.first, &wanted)) continue;
        read_endpoint(&from, &wanted.client, &wanted.client_port);
        if (is_for_many(&wanted.to)) continue;
        struct flow *f = flow_of(&wanted, target);
        if (!f) continue;
        f->used = now;
        sys(sendto, target ? f->inside : f->outside, data, n, MSG_NOSIGNAL, 0, 0);
    }
}

void move_datagrams(uint index, int outwards) {
    static byte data[65536];
    struct flow *f = &flows[index];
    for (int round = 0; round < 64 && f->inside >= 0; round++) {
        long n = sys(read, outwards ? f->inside : f->outside, data, sizeof data);
        if (n == -EAGAIN || n == -EINTR) return;
        if (n < 0) {
            forget(f); /* nobody is there: the next one begins anew */
            return;
        }
        f->used = now;
        sys(sendto, outwards ? f->outside : f->inside, data, n, MSG_NOSIGNAL, 0, 0);
    }
}

void datagrams_tick(ulong *deadline) {
    for (uint i = 0; i < MOST_FLOWS; i++) {
        struct flow *f = &flows[i];
        if (f->inside < 0) continue;
        if (now >= f->used + IDLE_NS) forget(f);
        else if (f->used + IDLE_NS < *deadline) *deadline = f->used + IDLE_NS;
    }
}
