/* The way out of a container without a cable: a process beside its supervisor, outside.
 *
 * Inside, every address is local and every TCP connection ends at our listener (src/kist/plan/compile_egress.py); where it
 * was meant to go is a request, which a policy grants or not. Packets of other kinds are dropped there, and told to us
 * by nfnetlink_log. What the container does to routes and rules of its own namespace opens nothing: there is no other
 * way out of it. We read hostile bytes, so we are nobody: no capability, no file to open, few system calls. */
#include "relay.h"
#include <linux/audit.h>

#define SOL_SOCKET 1
#define SO_ERROR 4
#define IPPROTO_TCP 6
#define MOST_CONNECTIONS 1024
#define SPLICE_FLAGS 3 /* MOVE, NONBLOCK */
#define PIECE (1UL << 20)
#define SNIFF_NS 15000000000UL
#define CONNECT_NS 10000000000UL
#define EPOLL_ET 0x80000000u
#define MOST_PORTS 256
#ifdef __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

typedef unsigned char byte;

#ifdef __x86_64__
struct epoll_event { uint events, index, what; };
#else
struct epoll_event { uint events, pad, index, what; };
#endif

struct connection {
    enum { FREE, SNIFFS, LOOKS_UP, CONNECTS, RELAYS } does;
    int client, server;
    struct { int pipe[2]; uint held, ended, done; } way[2]; /* to the server, to the client */
    struct name *name;      /* 0: meant for an address */
    struct address to;
    uint port, next, again;
    ulong deadline, may;    /* HTTP: bytes to the server before it is looked at again; then there is `expects` */
    enum expects expects;   /* ANYTHING: whatever follows */
};

struct policy policy; /* without a rule everything is let through */
ulong now;
static struct connection connections[MOST_CONNECTIONS];
static struct {
    int epoll, control, listener, dropped;
    uint most, used, full, again;
} r = {.epoll = -1};

const struct address own_address = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 198, 18, 0, 1}};

/* Published: what arrives at `listener`, outside, goes to the port `target` of the container's address. */
static struct { int listener; uint target, datagrams; struct address to; } ports[MOST_PORTS];
static uint port_count;
static int inner; /* who opens sockets inside: see serve_sockets; -1: we do, outside */

long watch(int fd, enum watched what, uint index, uint events) {
    struct epoll_event e = {.events = events, .index = index, .what = (uint)what};
    return sys(epoll_ctl, r.epoll, 1 /* EPOLL_CTL_ADD */, fd, &e);
}

/* --- connections */

ulong endpoint_of(struct endpoint *e, const struct address *a, uint port) {
    memset(e, 0, sizeof *e);
    e->port = swapped(port);
    e->family = is_v4(a) ? AF_INET : AF_INET6;
    if (is_v4(a)) memcpy(e->bytes, a->bytes + 12, 4);
    else memcpy(e->bytes + 4, a->bytes, 16);
    return is_v4(a) ? 16 : 28;
}

void read_endpoint(const struct endpoint *e, struct address *a, uint *port) {
    static const byte v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    *port = swapped(e->port);
    if (e->family == AF_INET) {
        memcpy(a->bytes, v4, 12);
        memcpy(a->bytes + 12, e->bytes, 4);
    } else {
        memcpy(a->bytes, e->bytes + 4, 16);
    }
}

static void listen_to_all(int begin);

static void reset(int fd) {
    struct { int on, seconds; } linger = {1, 0};
    if (fd < 0) return;
    sys(setsockopt, fd, SOL_SOCKET, 13 /* SO_LINGER */, &linger, sizeof linger);
    shut(fd);
}

static void end(struct connection *c, int in_peace) {
    if (in_peace) shut(c->client), shut(c->server);
    else reset(c->client), reset(c->server);
    for (int i = 0; i < 4; i++) shut(c->way[i / 2].pipe[i % 2]);
    if (c->name) c->name->users--;
    c->does = FREE;
    r.used--;
    if (r.full) listen_to_all(1);
}

/* The way to an address. `loops`: over the loopback interface, as none other takes packets of that size. */
static int way_to(const struct address *a, int *loops, int *bindable) {
    struct endpoint to, from;
    struct address here;
    uint port, size = sizeof from, word = sizeof(int);
    ulong bytes = endpoint_of(&to, a, 9);
    int mtu = 0, own = 1, v4 = is_v4(a);
    int fd = (int)sys(socket, to.family, SOCK_DGRAM | SOCK_FLAGS, 0), other = (int)sys(socket, to.family, SOCK_DGRAM | SOCK_FLAGS, 0);
    *loops = *bindable = 0;
    if (fd >= 0 && other >= 0) {
        long n = sys(connect, fd, &to, bytes);
        if (n < 0) own = n != -ENETUNREACH && n != -EHOSTUNREACH && n != -EADDRNOTAVAIL; /* else no way leads there at all */
        else if (sys(getsockname, fd, &from, &size) == 0) {
            read_endpoint(&from, &here, &port);
            for (int i = 0; i < 16; i++) own &= here.bytes[i] == a->bytes[i];
        }
        if (n == 0) sys(getsockopt, fd, v4 ? 0 : 41, v4 ? 14 /* IP_MTU */ : 24 /* IPV6_MTU */, &mtu, &word);
        *loops = mtu >= 65535;
        to.port = 0;
        *bindable = sys(bind, other, &to, bytes) == 0;
    }
    shut(fd);
    shut(other);
    return own;
}

/* Whether it is an address of this host: the way there begins at itself; for an interface's second address, or one that
 * routers share, it doesn't. Where addresses of nobody are like that, too (net.ipv4.ip_nonlocal_bind; a container of
 * kist's own), that tells nothing. Those are of the ranges for documentation, and for discarding. */
static int is_own(const struct address *a) {
    static const struct address nobody4 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1}}, nobody6 = {{1, [15] = 1}};
    int loops, bindable, all_loop, all_bindable, own = way_to(a, &loops, &bindable);
    if (own || !(loops || bindable)) return own;
    way_to(is_v4(a) ? &nobody4 : &nobody6, &all_loop, &all_bindable);
    return (loops && !all_loop) || (bindable && !all_bindable);
}

static int begin_connect(struct connection *c, const struct address *a) {
    struct endpoint to;
    ulong size = endpoint_of(&to, a, c->port);
    int on = 1;
    c->server = (int)sys(socket, to.family, SOCK_STREAM | SOCK_FLAGS, 0);
    if (c->server < 0) return 0;
    sys(setsockopt, c->server, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
    sys(setsockopt, c->server, SOL_SOCKET, 9 /* SO_KEEPALIVE */, &on, sizeof on);
    long n = sys(connect, c->server, &to, size);
    if ((n == 0 || n == -EINPROGRESS) && watch(c->server, SERVER, (uint)(c - connections), POLLIN | POLLOUT | EPOLL_ET) == 0) {
        c->does = CONNECTS;
        c->deadline = now + CONNECT_NS;
        return 1;
    }
    shut(c->server);
    c->server = -1;
    return 0;
}

/* To the next of the addresses that it may be. */
static void connect_next(struct connection *c) {
    uint count = c->name ? c->name->count : 1;
    while (c->next < count) {
        const struct address *a = c->name ? &c->name->addresses[c->next] : &c->to;
        c->next++;
        int own = policy.count && is_own(a);
        if (c->name && !allows_address(&policy, a, c->port, own) && (own || special_prefix(a) >= 0)) {
            denied("tcp", a, c->port, c->name->text, own ? "the name leads to this host" : "the name leads to a private address", "");
            continue;
        }
        if (!c->name && own && !allows_address(&policy, a, c->port, 1)) {
            denied("tcp", a, c->port, "", "this host", "");
            break;
        }
        if (begin_connect(c, a)) return;
    }
    end(c, 0);
}

void resolved(struct name *name) {
    for (uint i = 0; i < MOST_CONNECTIONS; i++)
        if (connections[i].does == LOOKS_UP && connections[i].name == name) connect_next(&connections[i]);
}

static void find_way(struct connection *c) {
    if (c->name && !look_up(c->name)) {
        c->does = LOOKS_UP;
        c->deadline = 0;
    } else {
        connect_next(c);
    }
}

static int is_for_its_name(struct connection *c, enum sniff said, const struct sniffed *found) {
    const char *name = c->name->text;
    int begins = c->expects < CHUNK, http = found->whole > 0;
    if (said == SNIFF_REFUSED) denied("tcp", 0, c->port, name, found->why, "");
    else if (begins && !same(found->name, name)) denied("tcp", 0, c->port, name, http ? "HTTP for " : "TLS for ", found->name);
    else if (found->port && found->port != c->port) denied("tcp", 0, c->port, name, "HTTP for another port", "");
    else if (c->expects == REQUEST && !http) denied("tcp", 0, c->port, name, "TLS behind HTTP", "");
    else {
        c->may = found->whole;
        c->expects = found->next;
        return 1;
    }
    return 0;
}

/* What the client says first is looked at, and stays where it is. */
static void listen_first(struct connection *c) {
    static byte data[SNIFF_MOST];
    struct sniffed found;
    long n = sys(recvfrom, c->client, data, sizeof data, 2 /* MSG_PEEK */, 0, 0);
    if (n == -EAGAIN || n == -EINTR) return;
    if (n <= 0) {
        end(c, 0);
        return;
    }
    enum sniff said = sniff(data, (ulong)n, &found);
    if (said == SNIFF_MORE) return;
    if (is_for_its_name(c, said, &found)) find_way(c);
    else end(c, 0);
}

/* What follows in a connection with HTTP. 1: `may` bytes, or its end; 0: not yet; -1: it is over. */
static int listen_on(struct connection *c) {
    static byte data[SNIFF_MOST];
    struct sniffed found;
    long n = sys(recvfrom, c->client, data, sizeof data, 2 /* MSG_PEEK */, 0, 0);
    if (n == -EAGAIN || n == -EINTR) return 0;
    if (n <= 0) return n < 0 ? -1 : 1;
    ulong size = (ulong)n;
    enum sniff said = c->expects == CHUNK ? sniff_chunk(data, size, &found)
                    : c->expects == CHUNK_END ? sniff_chunk_end(data, size, &found) : sniff(data, size, &found);
    if (said == SNIFF_MORE) return 0;
    return is_for_its_name(c, said, &found) ? 1 : -1;
}

static int is_loopback(const struct address *a) {
    return special_prefix(a) == 104 && a->bytes[12] == 127;
}

static void admit(struct connection *c) {
    struct endpoint e;
    uint size = sizeof e;
    memset(&e, 0, sizeof e);
    long n = sys(getsockopt, c->client, 0 /* SOL_IP */, 80 /* SO_ORIGINAL_DST */, &e, &size);
    size = sizeof e;
    if (n < 0) n = sys(getsockopt, c->client, 41 /* SOL_IPV6 */, 80, &e, &size);
    if (n < 0) {
        end(c, 0);
        return;
    }
    read_endpoint(&e, &c->to, &c->port);
    struct name *name = policy.count ? known_as(&c->to) : 0;
    if (!name) {
        if (policy.count ? allows_address(&policy, &c->to, c->port, 0) : !is_loopback(&c->to)) {
            find_way(c);
            return;
        }
        denied("tcp", &c->to, c->port, "", "the address is not on the list", "");
        end(c, 0);
        return;
    }
    const struct rule *rule = allows_connection(&policy, name->text, c->port);
    if (!rule) {
        denied("tcp", 0, c->port, name->text, "not at this port", "");
        end(c, 0);
        return;
    }
    c->name = name;
    name->users++;
    name->used = now;
    if (rule->plain) {
        find_way(c);
        return;
    }
    c->does = SNIFFS;
    c->deadline = now + SNIFF_NS;
    listen_first(c);
}

/* `bound`: datagrams come from where the wish says. */
static long opened(const struct wish *w, int bound) {
    int fd = (int)sys(socket, w->to.family, (w->datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_FLAGS, 0), on = 1;
    long n = fd;
    if (n >= 0 && bound && w->datagrams) {
        sys(setsockopt, fd, SOL_SOCKET, 2 /* SO_REUSEADDR */, &on, sizeof on);
        sys(setsockopt, fd, 41, 78 /* IPV6_FREEBIND: there a route alone makes no address local */, &on, sizeof on);
        n = sys(bind, fd, &w->from, w->size);
    }
    if (n >= 0) n = sys(connect, fd, &w->to, w->size);
    if (n == 0 || n == -EINPROGRESS) return fd;
    shut(fd);
    return n;
}

long open_inside(const struct wish *wish) {
    if (inner < 0) return opened(wish, 0);
    long n = sys(sendto, inner, wish, sizeof *wish, MSG_NOSIGNAL, 0, 0);
    return n < 0 ? n : take_fd(inner);
}

/* From outside to a published port. */
static void bring_in(struct connection *c, int port) {
    struct wish wish = {0, 0, {0, 0, {0}}, {0, 0, {0}}};
    wish.size = (uint)endpoint_of(&wish.to, &ports[port].to, ports[port].target);
    long fd = open_inside(&wish);
    int on = 1;
    if (fd < 0) {
        end(c, 0);
        return;
    }
    c->server = (int)fd;
    c->next = 1;
    c->does = CONNECTS;
    c->deadline = now + CONNECT_NS;
    sys(setsockopt, c->server, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
    if (watch(c->server, SERVER, (uint)(c - connections), POLLIN | POLLOUT | EPOLL_ET) < 0) end(c, 0);
}

static void listen_to_all(int begin) {
    r.full = !begin;
    if (begin) watch(r.listener, LISTENER, 0, POLLIN);
    else sys(epoll_ctl, r.epoll, 2 /* EPOLL_CTL_DEL */, r.listener, 0);
    for (uint i = 0; i < port_count; i++)
        if (ports[i].datagrams) continue;
        else if (begin) watch(ports[i].listener, PORT, i, POLLIN);
        else sys(epoll_ctl, r.epoll, 2, ports[i].listener, 0);
}

/* `port`: which published one; -1: those that the container makes. */
static void take_connections(int port) {
    for (;;) {
        uint i = 0;
        while (i < r.most && connections[i].does != FREE) i++;
        if (i == r.most) {
            listen_to_all(0);
            return;
        }
        struct connection *c = &connections[i];
        int fd = (int)sys(accept4, port < 0 ? r.listener : ports[port].listener, 0, 0, SOCK_FLAGS), on = 1;
        if (fd < 0) return;
        memset(c, 0, sizeof *c);
        c->client = fd;
        c->server = -1;
        for (int k = 0; k < 4; k++) c->way[k / 2].pipe[k % 2] = -1;
        c->does = SNIFFS;
        r.used++;
        sys(setsockopt, fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
        sys(setsockopt, fd, SOL_SOCKET, 10 /* SO_OOBINLINE: what is looked at is all that is passed on */, &on, sizeof on);
        if (watch(fd, CLIENT, i, POLLIN | POLLOUT | EPOLL_ET) < 0) end(c, 0);
        else if (port < 0) admit(c);
        else bring_in(c, port);
    }
}

/* Move what can be moved one way. -1: it is over with both. */
static int move(struct connection *c, int to_client) {
    int from = to_client ? c->server : c->client, to = to_client ? c->client : c->server;
    for (int round = 0; round < 64; round++) {
        uint held = c->way[to_client].held;
        int *pipe = c->way[to_client].pipe;
        if (!held && !c->way[to_client].ended) {
            int looks = c->expects && !to_client, there = looks && !c->may ? listen_on(c) : 1;
            if (there <= 0) return there;
            long n = sys(splice, from, 0, pipe[1], 0, looks && c->may && c->may < PIECE ? c->may : PIECE, SPLICE_FLAGS);
            if (n == -EAGAIN || n == -EINTR) return 0;
            if (n < 0) return -1;
            if (looks) c->may -= (ulong)n;
            c->way[to_client].ended = n == 0;
            held = (uint)n;
        }
        if (held) {
            long n = sys(splice, pipe[0], 0, to, 0, held, SPLICE_FLAGS);
            if (n < 0) c->way[to_client].held = held;
            if (n == -EAGAIN || n == -EINTR) return 0;
            if (n <= 0) return -1;
            held -= (uint)n;
        }
        c->way[to_client].held = held;
        if (!held && c->way[to_client].ended) {
            if (!c->way[to_client].done) sys(shutdown, to, 1 /* SHUT_WR */);
            c->way[to_client].done = 1;
            return 0;
        }
    }
    c->again = r.again = 1; /* the others are to get their turn */
    return 0;
}

static void relay(struct connection *c) {
    c->again = 0;
    if (move(c, 0) < 0 || move(c, 1) < 0) end(c, 0);
    else if (c->way[0].done && c->way[1].done) end(c, 1);
}

static void reached(struct connection *c) {
    struct endpoint e;
    uint size = sizeof e;
    int error = 0;
    uint bytes = sizeof error;
    sys(getsockopt, c->server, SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error) {
        shut(c->server);
        c->server = -1;
        connect_next(c);
        return;
    }
    if (sys(getpeername, c->server, &e, &size) < 0) return; /* not yet */
    if (sys(pipe2, c->way[0].pipe, O_CLOEXEC | O_NONBLOCK) < 0 || sys(pipe2, c->way[1].pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        end(c, 0);
        return;
    }
    if (!c->expects) {
        if (c->name) c->name->users--;
        c->name = 0;
    }
    c->does = RELAYS;
    relay(c);
}

static void serve(struct connection *c, enum watched what) {
    if (c->does == SNIFFS && what == CLIENT) listen_first(c);
    else if (c->does == CONNECTS && what == SERVER) reached(c);
    else if (c->does == RELAYS) relay(c);
}

/* --- the process */

static void look_at_clock(ulong *deadline) {
    for (uint i = 0; i < MOST_CONNECTIONS && r.used; i++) {
        struct connection *c = &connections[i];
        if (c->does != SNIFFS && c->does != CONNECTS) continue;
        if (now < c->deadline) {
            if (c->deadline < *deadline) *deadline = c->deadline;
        } else if (c->does == SNIFFS) {
            denied("tcp", 0, c->port, c->name ? c->name->text : "", "it did not say in time for whom it is", "");
            end(c, 0);
        } else {
            shut(c->server);
            c->server = -1;
            connect_next(c);
        }
    }
    if (policy.count) lookups_tick(deadline);
    datagrams_tick(deadline);
}

static void pump(void) {
    r.again = 0;
    for (uint i = 0; i < MOST_CONNECTIONS; i++)
        if (connections[i].does == RELAYS && connections[i].again) relay(&connections[i]);
}

__attribute__((noreturn)) static void run(void) {
    static struct epoll_event events[64];
    for (;;) {
        ulong deadline = now + 3600000000000UL;
        now = now_ns();
        look_at_clock(&deadline);
        long wait_ms = r.again ? 0 : deadline > now ? (long)((deadline - now) / 1000000) + 1 : 0;
        long n = sys(epoll_pwait, r.epoll, events, 64, wait_ms, 0, 8);
        now = now_ns();
        for (long i = 0; i < n; i++) {
            uint index = events[i].index;
            switch ((enum watched)events[i].what) {
            case CONTROL: /* it is over: what is left to be said is said */
                if (policy.count) take_questions(), take_dropped(r.dropped);
                leave(0);
            case LISTENER: take_connections(-1); break;
            case PORT:
                if (ports[index].datagrams) take_datagrams(ports[index].listener, ports[index].target);
                else take_connections((int)index);
                break;
            case DATAGRAMS: take_datagrams(-1, 0); break;
            case FLOW_INSIDE:
            case FLOW_OUTSIDE: move_datagrams(index, events[i].what == FLOW_INSIDE); break;
            case QUESTIONS: take_questions(); break;
            case DROPPED: take_dropped(r.dropped); break;
            case LOOKUP: take_reply(index); break;
            case CLIENT:
            case SERVER: serve(&connections[index], (enum watched)events[i].what); break;
            }
        }
        if (r.again) pump();
    }
}

/* What we do from here on, and nothing else: no file, no program, no other process. Sockets are of the internet only. */
static long confine(void) {
#define ALLOW(name) {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, __NR_##name}, {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}
    static struct sock_filter filter[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 4},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, ARCHITECTURE},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
        ALLOW(epoll_pwait), ALLOW(splice), ALLOW(recvfrom), ALLOW(sendto), ALLOW(read), ALLOW(write), ALLOW(close),
        ALLOW(clock_gettime), ALLOW(epoll_ctl), ALLOW(accept4), ALLOW(connect), ALLOW(getsockopt), ALLOW(setsockopt),
        ALLOW(getsockname), ALLOW(getpeername), ALLOW(shutdown), ALLOW(pipe2), ALLOW(getrandom), ALLOW(pread64),
        ALLOW(ftruncate), ALLOW(sendmsg), ALLOW(recvmsg), ALLOW(bind), ALLOW(exit_group), ALLOW(restart_syscall),
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, __NR_socket},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 16},
        {BPF_JMP | BPF_JEQ | BPF_K, 2, 0, AF_INET},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AF_INET6},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, 24},
        {BPF_ALU | BPF_AND | BPF_K, 0, 0, 15},
        {BPF_JMP | BPF_JEQ | BPF_K, 2, 0, SOCK_STREAM},
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SOCK_DGRAM},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
        {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    if (sys(geteuid) == 0) { /* in a user namespace there may be nobody else to become */
        sys(setgroups, 0, 0);
        sys(setresgid, 65534, 65534, 65534);
        sys(setresuid, 65534, 65534, 65534);
    }
    long n = sys(capset, &header, none);
    if (n == 0) n = sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (n == 0) n = sys(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (n == 0) n = sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (n == 0) n = sys(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    return n;
}

enum { GIVEN_LISTENER, GIVEN_QUESTIONS, GIVEN_DROPPED, GIVEN_DATAGRAMS, LOG, OURS, INNER, FDS };

/* `fds`, with those of published ports behind them, become the lowest above 2, and all others go. */
void keep_only(int *fds, uint count) {
    null_stdio();
    for (uint i = 0; i < count; i++)
        if (fds[i] >= 0) fds[i] = (int)sys(fcntl, fds[i], 0 /* F_DUPFD */, 3 + count);
    for (uint i = 0; i < count; i++)
        if (fds[i] < 0 || sys(dup3, fds[i], 3 + i, O_CLOEXEC) < 0) sys(close, 3 + i);
    sys(close_range, 3 + count, ~0U, 0);
}

static long settle_in(const int *given, char **servers, long count) {
    struct rlimit64 files;
    static int fds[FDS + MOST_PORTS];
    memcpy(fds, given, FDS * sizeof *fds);
    for (uint i = 0; i < port_count; i++) fds[FDS + i] = ports[i].listener;
    keep_only(fds, FDS + port_count);
    for (uint i = 0; i < port_count; i++) {
        ports[i].listener = (int)(3 + FDS + i);
        sys(fcntl, ports[i].listener, F_SETFL, O_NONBLOCK);
        ports[i].datagrams = (uint)publish_datagrams(ports[i].listener);
    }
    r.listener = 3 + GIVEN_LISTENER;
    r.dropped = 3 + GIVEN_DROPPED;
    denials_to(3 + LOG);
    r.control = 3 + OURS;
    inner = given[INNER] < 0 ? -1 : 3 + INNER;
    if (sys(prlimit64, 0, 7 /* RLIMIT_NOFILE */, 0, &files) == 0) {
        files.soft = files.hard;
        sys(prlimit64, 0, 7, &files, 0);
        ulong most = files.hard > 1200 ? (files.hard - 1100) / 6 : 16; /* and a socket for each name */
        r.most = most < MOST_CONNECTIONS ? (uint)most : MOST_CONNECTIONS;
    }
    r.epoll = (int)sys(epoll_create1, 02000000);
    if (r.epoll < 0) return r.epoll;
    now = now_ns();
    long n = policy.count ? lookups_begin(3 + GIVEN_QUESTIONS, servers, count) : 0;
    if (n == 0) n = watch(r.control, CONTROL, 0, POLLIN);
    if (n == 0) listen_to_all(1);
    for (uint i = 0; n == 0 && i < port_count; i++)
        if (ports[i].datagrams) n = watch(ports[i].listener, PORT, i, POLLIN);
    if (n == 0 && policy.count) n = watch(r.dropped, DROPPED, 0, POLLIN);
    if (n == 0) n = datagrams_begin(given[GIVEN_DATAGRAMS] < 0 ? -1 : 3 + GIVEN_DATAGRAMS);
    return n < 0 ? n : confine();
}

/* A process in the container's network namespace but not among its processes, for open_inside. */
__attribute__((noreturn)) static void serve_sockets(int *fds) {
    enum { ASKED, USER, NET };
    struct wish w;
    keep_only(fds, 3);
    long n = sys(setns, 3 + USER, CLONE_NEWUSER);
    if (n == 0 || n == -EINVAL /* it is ours */) n = sys(setns, 3 + NET, CLONE_NEWNET);
    if (n < 0 || confine() < 0) leave(1);
    while (sys(recvfrom, 3 + ASKED, &w, sizeof w, 0, 0, 0) == sizeof w) {
        int fd = (int)opened(&w, 1);
        n = fd >= 0 ? send_fd(3 + ASKED, fd) : sys(sendto, 3 + ASKED, &w, 4, MSG_NOSIGNAL, 0, 0);
        shut(fd);
        if (n < 0) break;
    }
    leave(0);
}

static long fork_off(int *pidfd) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = CLONE_PIDFD;
    args.pidfd = (ulong)pidfd;
    args.exit_signal = SIGCHLD;
    long n = sys(clone3, &args, sizeof args);
    if (n == 0) sys(prctl, PR_SET_NAME, "kist net", 0, 0, 0);
    return n;
}

/* The other end of what serves sockets. It ends with the relay, who alone has that. */
static long start_inner(struct state *s) {
    int pair[2], fds[3], pidfd = -1;
    long n = sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000, 0, pair);
    if (n < 0) return n;
    fds[0] = pair[1];
    for (int i = 1; i < 3; i++) {
        n = receive_fd(s);
        if (n < 0) return n;
        fds[i] = (int)n;
    }
    n = fork_off(&pidfd);
    if (n == 0) serve_sockets(fds);
    for (int i = 0; i < 3; i++) shut(fds[i]);
    shut(pidfd);
    return n < 0 ? n : pair[0];
}

/* Each: the listener, the container's port, and the bytes of its address if that is not its own one inside. */
static long read_ports(const struct argument *list) {
    static char *texts[MOST_PORTS + 1];
    long count = list_strings(list, texts, MOST_PORTS);
    for (long i = 0; i < count; i++) {
        uint numbers[18] = {0}, which = 0;
        for (const char *c = texts[i]; *c; c++) {
            if (*c == ' ' && which < 17) which++;
            else if (*c >= '0' && *c <= '9') numbers[which] = numbers[which] * 10 + (uint)(*c - '0');
            else return -EINVAL;
        }
        ports[i].listener = (int)numbers[0];
        ports[i].target = numbers[1];
        ports[i].to = own_address;
        for (uint at = which == 5 ? 12 : 0, from = 2; from <= which; from++) ports[i].to.bytes[at++] = (byte)numbers[from];
    }
    port_count = count < 0 ? 0 : (uint)count;
    return count;
}

long relay_start(struct state *s, const struct step *step) {
    ARGUMENTS(relay_start);
    static char *rules[MAX_RULES], *servers[8];
    int fds[FDS], pair[2];
    for (int i = 0; i < FDS; i++) fds[i] = -1;
    s->argument = 2;
    long n = list_strings(&a->rules, rules, MAX_RULES);
    if (n >= 0) n = read_rules(&policy, rules, (ulong)n);
    if (n < 0) return n;
    s->argument = 4;
    n = read_ports(&a->ports);
    if (n < 0) return n;
    s->argument = 0;
    static const int with_policy[] = {GIVEN_LISTENER, GIVEN_QUESTIONS, GIVEN_DROPPED, -1};
    static const int without[] = {GIVEN_LISTENER, GIVEN_DATAGRAMS, -1};
    for (const int *which = policy.count ? with_policy : without; *which >= 0; which++) {
        n = receive_fd(s);
        if (n < 0) return n;
        fds[*which] = (int)n;
    }
    if (!policy.count || port_count) fds[INNER] = (int)(n = start_inner(s));
    if (n >= 0 && policy.count) fds[LOG] = (int)(n = denials_open(a->log.s, a->log_bytes.n));
    if (n < 0) return n;
    long count = list_strings(&a->servers, servers, 7);
    n = sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000, 0, pair);
    if (n < 0) return n;
    fds[OURS] = pair[1];
    n = fork_off(&helper.pidfd);
    if (n == 0) {
        int ready = (int)settle_in(fds, servers, count);
        sys(write, 3 + OURS, &ready, sizeof ready);
        if (ready < 0) leave(1);
        run();
    }
    helper.pid = (int)n;
    helper.control = pair[0];
    for (int i = 0; i < FDS; i++) shut(fds[i]);
    for (uint i = 0; i < port_count; i++) shut(ports[i].listener);
    int ready = -ECHILD;
    if (n > 0) {
        sys(read, helper.control, &ready, sizeof ready);
        n = ready;
    }
    return n;
}

/* --- beside a cable: ports of a family of addresses that the container does not have. The process is made when somebody
 * comes: until then the supervisor waits. */

long proxy(const struct step *step) {
    ARGUMENTS(proxy);
    long n = read_ports(&a->ports);
    if (n >= 0) r.epoll = (int)(n = sys(epoll_create1, 02000000));
    for (uint i = 0; n >= 0 && i < port_count; i++) n = watch(ports[i].listener, PORT, i, POLLIN);
    return n < 0 ? n : 0;
}

int proxy_waits(void) { return r.epoll; }

void proxy_start(void) {
    int fds[FDS], pair[2];
    for (int i = 0; i < FDS; i++) fds[i] = -1;
    shut(r.epoll);
    r.epoll = -1;
    if (sys(socketpair, 1 /* AF_UNIX */, 5 | 02000000, 0, pair) < 0) return;
    fds[OURS] = pair[1];
    helper.control = pair[0];
    helper.pid = (int)fork_off(&helper.pidfd);
    if (helper.pid == 0) {
        if (settle_in(fds, 0, 0) < 0) leave(1);
        run();
    }
    shut(pair[1]);
    for (uint i = 0; i < port_count; i++) shut(ports[i].listener);
}
