/* Datagrams of a container whose relay lets all through. Inside, the first of a flow arrives at one socket for all (by
 * nftables' tproxy); then a socket of the flow's own, bound to where it was sent to, has the rest and the answers. */
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
struct control { ulong length; int level, type; struct endpoint to; };

long datagrams_begin(int fd) {
    first = fd;
    for (uint i = 0; i < MOST_FLOWS; i++) flows[i].inside = flows[i].outside = -1;
    return watch(fd, DATAGRAMS, 0, POLLIN);
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

/* 0: there is no such flow, and none can be. */
static struct flow *flow_of(struct flow *wanted) {
    struct flow *f = place_for(wanted);
    struct endpoint to;
    if (f->inside >= 0 && f->port == wanted->port && equal(&f->to, &wanted->to) && f->client_port == wanted->client_port) return f;
    forget(f);
    ulong size = endpoint_of(&to, &wanted->to, wanted->port);
    wanted->outside = (int)sys(socket, to.family, SOCK_DGRAM | SOCK_FLAGS, 0);
    if (wanted->outside < 0) return 0;
    long fd = sys(connect, wanted->outside, &to, size);
    struct wish wish = {1, (uint)size, to, {0, 0, {0}}};
    endpoint_of(&wish.to, &wanted->client, wanted->client_port);
    if (fd == 0) fd = open_inside(&wish);
    wanted->inside = (int)fd;
    *f = *wanted;
    uint index = (uint)(f - flows);
    if (fd >= 0 && watch(f->inside, FLOW_INSIDE, index, POLLIN) == 0 && watch(f->outside, FLOW_OUTSIDE, index, POLLIN) == 0) return f;
    forget(f);
    return 0;
}

void take_datagrams(void) {
    static byte data[65536];
    for (int round = 0; round < 64; round++) {
        struct endpoint from;
        struct { void *at; ulong size; } part = {data, sizeof data};
        union { struct control first; byte room[256]; } control;
        struct header m = {&from, sizeof from, 0, (void *)&part, 1, &control, sizeof control, 0, 0};
        long n = sys(recvmsg, first, &m, 0x40000000 /* MSG_CMSG_CLOEXEC */);
        if (n < 0) return;
        int known = m.control_size >= 32 && ((control.first.level == 0 && control.first.type == 20 /* IP_ORIGDSTADDR */) ||
                                             (control.first.level == 41 && control.first.type == 74));
        struct flow wanted;
        memset(&wanted, 0, sizeof wanted);
        if (!known) continue;
        read_endpoint(&control.first.to, &wanted.to, &wanted.port);
        read_endpoint(&from, &wanted.client, &wanted.client_port);
        if (is_for_many(&wanted.to)) continue;
        struct flow *f = flow_of(&wanted);
        if (!f) continue;
        f->used = now;
        sys(sendto, f->outside, data, n, MSG_NOSIGNAL, 0, 0);
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
