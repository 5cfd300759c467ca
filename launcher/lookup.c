/* The name server of a container with a policy. It answers with addresses of its own, of 198.18.0.0/15, so that the relay
 * knows which name a connection is meant for; a name that no rule has never leaves. Source: RFC 1035, 6891. */
#include "relay.h"

#define MOST_WAITING 64
#define PATIENCE_NS 2000000000UL
#define MOST_SERVERS 3
#define LEAST_TTL_S 5UL
#define MOST_TTL_S 300UL
#define MOST_WILD 64            /* bytes that may stand for a `*` */
#define WILD_BURST 40           /* names of such rules asked for at once, and then one each: */
#define WILD_NS 500000000UL

typedef unsigned char byte;
struct socket_address { unsigned short family, port; byte bytes[24]; uint size; };
struct waiting { struct name *name; byte client[16]; uint size; byte message[512]; };

static struct {
    int questions;
    struct socket_address servers[MOST_SERVERS];
    uint server_count, last;
    ulong spent_until;
    struct waiting waiting[MOST_WAITING];
    uint turn;
} l;
static struct name names[MOST_NAMES];

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static void add_server(const char *text) {
    struct socket_address *to = &l.servers[l.server_count];
    byte bytes[16];
    uint n = 0;
    for (; n < 16 && digit(text[0]) >= 0 && digit(text[1]) >= 0; text += 2) bytes[n++] = (byte)(digit(text[0]) << 4 | digit(text[1]));
    if (*text || (n != 4 && n != 16)) return;
    memset(to, 0, sizeof *to);
    to->family = n == 4 ? AF_INET : AF_INET6;
    to->port = 53 << 8;
    memcpy(to->bytes + (n == 4 ? 0 : 4), bytes, n);
    to->size = n == 4 ? 16 : 28;
    l.server_count++;
}

long lookups_begin(int questions, char **servers, long count) {
    l.questions = questions;
    for (long i = 0; i < count && l.server_count < MOST_SERVERS; i++) add_server(servers[i]);
    for (uint i = 0; i < MOST_NAMES; i++) names[i].fd = -1;
    return watch(questions, QUESTIONS, 0, POLLIN);
}

/* --- names */

static struct name *find_name(const char *text) {
    for (uint i = 0; i < MOST_NAMES; i++)
        if (same(names[i].text, text)) return &names[i];
    return 0;
}

struct name *known_as(const struct address *address) {
    for (uint i = 0; i < MOST_NAMES && is_v4(address); i++) {
        const byte *a = names[i].known_as, *b = address->bytes + 12;
        if (*names[i].text && a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]) return &names[i];
    }
    return 0;
}

/* In a free place, or in that of the one that nobody has used for longest. Its address is not given again for long. */
static struct name *add_name(const char *text, uint wild) {
    struct name *place = 0;
    for (uint i = 0; i < MOST_NAMES; i++) {
        struct name *n = &names[i];
        if (n->users || n->fd >= 0) continue;
        if (!place || n->used < place->used) place = n;
    }
    if (!place) return 0;
    memset(place, 0, sizeof *place);
    memcpy(place->text, text, length(text));
    place->fd = -1;
    place->wild = wild;
    l.last = (l.last + 1) % 0x1fe00; /* 198.18.1.0 to 198.19.254.255 */
    uint at = l.last + 0x100;
    byte known[4] = {198, (byte)(18 + (at >> 16)), (byte)(at >> 8), (byte)at};
    memcpy(place->known_as, known, 4);
    return place;
}

/* What a `*` stands for is the container's to choose, and leaves with the question: little of it, and not often. */
static int may_ask(uint wild) {
    if (!wild) return 1;
    ulong full = WILD_BURST * WILD_NS;
    if (l.spent_until < now) l.spent_until = now;
    if (l.spent_until + WILD_NS > now + full) return 0;
    l.spent_until += WILD_NS;
    return 1;
}

/* --- questions to the servers outside */

static uint question_bytes(const struct name *n, byte *m) {
    static const byte head[12] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, opt[11] = {0, 0, TYPE_OPT, 1232 >> 8, 1232 & 255};
    memcpy(m, head, 12);
    memcpy(m, &n->id, 2);
    uint at = 12;
    for (const char *c = n->text; *c;) {
        uint start = at++;
        while (*c && *c != '.') m[at++] = (byte)*c++;
        m[start] = (byte)(at - start - 1);
        if (*c) c++;
    }
    m[at++] = 0;
    m[at++] = 0;
    m[at++] = (byte)n->type;
    m[at++] = 0;
    m[at++] = 1;
    memcpy(m + at, opt, 11);
    return at + 11;
}

static void tell_waiting(struct name *n) {
    for (uint i = 0; i < MOST_WAITING; i++) {
        struct waiting *w = &l.waiting[i];
        struct question q;
        if (w->name != n || !w->size) continue;
        read_question(w->message, w->size, &q);
        uint size = n->count ? answer_address(w->message, &q, n->known_as) : answer_empty(w->message, &q, (int)n->code);
        sys(sendto, l.questions, w->message, size, MSG_NOSIGNAL, w->client, sizeof w->client);
        w->size = 0;
    }
}

static void settle(struct name *n, uint code, ulong ttl_s) {
    shut(n->fd);
    n->fd = -1;
    n->code = code;
    ttl_s = ttl_s < LEAST_TTL_S ? LEAST_TTL_S : ttl_s > MOST_TTL_S ? MOST_TTL_S : ttl_s;
    n->fresh_until = now + ttl_s * 1000000000UL;
    tell_waiting(n);
    resolved(n);
}

/* To the next server that takes the question. */
static void ask(struct name *n) {
    byte message[NAME_ROOM + 32];
    for (; n->server < l.server_count; n->server++) {
        const struct socket_address *to = &l.servers[n->server];
        shut(n->fd);
        n->fd = (int)sys(socket, to->family, SOCK_DGRAM | SOCK_FLAGS, 0);
        if (n->fd < 0 || sys(connect, n->fd, to, to->size) < 0) continue;
        sys(getrandom, &n->id, 2, 0);
        uint size = question_bytes(n, message);
        if (watch(n->fd, LOOKUP, (uint)(n - names), POLLIN) < 0) continue;
        if (sys(sendto, n->fd, message, size, MSG_NOSIGNAL, 0, 0) < 0) continue;
        n->deadline = now + PATIENCE_NS;
        return;
    }
    settle(n, SERVER_FAILED, 0);
}

int look_up(struct name *n) {
    n->used = now;
    if (n->fd >= 0) return 0;
    if (n->fresh_until > now) return 1;
    if (!may_ask(n->wild)) {
        if (n->count) return 1; /* what was found before */
        denied("dns", 0, 0, n->text, "too many names in a short time", "");
        n->code = REFUSED;
        return 1;
    }
    n->count = n->server = 0;
    n->type = TYPE_A;
    ask(n);
    return n->fd < 0;
}

void take_reply(uint index) {
    static byte m[65536];
    byte asked[NAME_ROOM + 32];
    struct name *n = &names[index];
    if (n->fd < 0) return;
    long size = sys(read, n->fd, m, sizeof m);
    if (size == -EAGAIN || size == -EINTR) return;
    uint end = question_bytes(n, asked) - 11;
    int same_question = size >= (long)end && m[2] & 0x80 && !m[4] && m[5] == 1;
    for (uint i = 0; same_question && i < end; i++) {
        byte c = m[i];
        if (i >= 12 && c >= 'A' && c <= 'Z') c = (byte)(c + 32);
        if ((i < 2 || i >= 12) && c != asked[i]) same_question = 0;
    }
    if (size >= 0 && !same_question) return;
    uint code = size < 0 ? SERVER_FAILED : m[3] & 15;
    if (code != ANSWERED && code != NO_SUCH_NAME) {
        n->server++;
        ask(n);
        return;
    }
    ulong ttl = code ? 0 : read_addresses(m, (uint)size, end, n->type, n->addresses[0].bytes, MOST_ADDRESSES, &n->count);
    if (!code && !n->count && n->type == TYPE_A) {
        n->type = TYPE_AAAA;
        ask(n);
        return;
    }
    settle(n, code, n->count ? ttl : 0); /* that there is none is not believed for long */
}

void lookups_tick(ulong *deadline) {
    for (uint i = 0; i < MOST_NAMES; i++) {
        struct name *n = &names[i];
        if (n->fd < 0) continue;
        if (now >= n->deadline) {
            n->server++;
            ask(n);
        }
        if (n->fd >= 0 && n->deadline < *deadline) *deadline = n->deadline;
    }
}

/* --- questions from inside */

static void wait_for(struct name *n, const byte *client, const byte *message, ulong size) {
    struct waiting *w = &l.waiting[l.turn];
    for (uint i = 0; i < MOST_WAITING; i++)
        if (!l.waiting[i].size) w = &l.waiting[i];
    l.turn = (l.turn + 1) % MOST_WAITING; /* whoever is there asks again */
    if (size > sizeof w->message) return;
    w->name = n;
    w->size = (uint)size;
    memcpy(w->client, client, sizeof w->client);
    memcpy(w->message, message, size);
}

/* The answer in place of the question: its size; 0: it comes later. */
static uint answer(byte *m, ulong size, const byte *client) {
    struct question q;
    int code = read_question(m, size, &q);
    if (code) return answer_empty(m, &q, code);
    long wild = *q.name ? allows_name(&policy, q.name) : -1;
    const char *why = wild < 0 ? "not on the list" : wild > MOST_WILD ? "too long for a rule with *" : 0;
    if (why) {
        denied("dns", 0, 0, q.name, why, "");
        return answer_empty(m, &q, NO_SUCH_NAME);
    }
    if (q.type != TYPE_A) return answer_empty(m, &q, ANSWERED);
    struct name *n = find_name(q.name);
    if (!n) n = add_name(q.name, wild > 0);
    if (!n) return answer_empty(m, &q, SERVER_FAILED);
    if (!look_up(n)) {
        wait_for(n, client, m, size);
        return 0;
    }
    return n->count ? answer_address(m, &q, n->known_as) : answer_empty(m, &q, (int)n->code);
}

void take_questions(void) {
    static byte m[DNS_MOST];
    for (int round = 0; round < 64; round++) {
        byte client[16];
        uint room = sizeof client;
        long n = sys(recvfrom, l.questions, m, sizeof m, 0, client, &room);
        if (n < 0) return;
        if (n < 12 || m[2] & 0x80) continue; /* never answer an answer */
        uint size = answer(m, (ulong)n, client);
        if (size) sys(sendto, l.questions, m, size, MSG_NOSIGNAL, client, sizeof client);
    }
}
