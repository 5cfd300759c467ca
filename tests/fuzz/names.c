/* Any bytes as what a container's name server reads: from a client by UDP and TCP, and from the host's servers. Nothing
 * outside of them is read or written, and what is answered is an answer to what was asked.
 *
 * Built as front.c is, with the whole of resolve.c in it; names are files of a directory of its own. */
#include "../../launcher/resolve.c"

void *malloc(ulong size);
void free(void *memory);
long list_strings(const struct argument *list, char **out, ulong room) { (void)list, (void)out, (void)room; return 0; }
long receive_fd(struct state *s) { (void)s; return -1; }

static void demand(int holds) { if (!holds) __builtin_trap(); }

static void make_file(const char *path, const char *text) {
    int fd = (int)open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    demand(sys(write, fd, text, length(text)) == (long)length(text));
    shut(fd);
}

/* web has two addresses of each kind, many has 300, odd has lines that nobody writes. */
static void make_names(void) {
    static char many[300 * 16 + 1];
    sys(mkdirat, AT_FDCWD, "build", 0700);
    for (const char *const *d = (const char *const[]){"build/of-names", "build/of-names/red", "build/of-names/run", "build/of-names/run/a", 0}; *d; d++)
        sys(mkdirat, AT_FDCWD, *d, 0700);
    for (ulong i = 0; i < 300; i++) memcpy(many + 16 * i, "a 0a090102 -    ", 15), many[16 * i + 15] = '\n';
    make_file("build/of-names/of", "red\n../red\n\nblue\n");
    make_file("build/of-names/red/web", "a 0a090102 fd090000000000000000000000000002\ngone 0a090103 -\na 0a090104 -\n");
    make_file("build/of-names/red/many", many);
    make_file("build/of-names/red/odd", "a\na 0a0\n a\na zz zz\n/ 0a090102\n\n\na 0a09010203 fd09\na 0a090102 - x y z");
    make_file("build/of-names/red/=0a090102", "a web.with.a-label-that-is-longer-than-any-label-of-a-name-may-be-by-the-rules-of-names..x\n");
    r.names = (struct names){"build/of-names", "build/of-names/of", "build/of-names/run"};
    r.datagrams = r.listener = -1;
    for (uint i = 0; i < MOST_PENDING; i++) r.pending[i].fd = -1;
    for (uint i = 0; i < MOST_STREAMS; i++) r.streams[i].client = r.streams[i].server = -1;
    r.on = 1;
}

/* By UDP, in a room of its own of the size that the launcher has. */
static int datagram(const unsigned char *data, ulong size) {
    struct question q;
    if (size > DNS_MOST || size < 12 || data[2] & 0x80) return 0;
    unsigned char *exact = malloc(size), *message = malloc(DNS_MOST);
    memcpy(exact, data, size);
    memcpy(message, data, size);
    int code = read_question(exact, size, &q);
    demand(code || (q.end <= size && q.room >= 512 && q.room <= DNS_MOST && length(q.name) < sizeof q.name));
    uint n = answer_here(message, size, &q, 0);
    demand(n <= DNS_MOST && (!n || (n >= 12 && message[2] & 0x80 && message[0] == data[0] && message[1] == data[1])));
    free(exact);
    free(message);
    return !code && n > q.end;
}

static int pair(int kind, int fds[2]) { return sys(socketpair, 1 /* AF_UNIX */, kind | SOCK_FLAGS, 0, fds) == 0; }

/* By TCP: as it comes, in two parts. */
static int stream(const unsigned char *data, ulong size) {
    struct stream *c = &r.streams[0];
    int fds[2], answered = 0;
    static unsigned char heard[65536];
    if (!size || !pair(SOCK_STREAM, fds)) return 0;
    memset(c, 0, sizeof *c);
    c->client = fds[0];
    c->server = -1;
    ulong part = 1 + (size - 1) * data[size - 1] / 255;
    for (int round = 0; round < 2; round++) {
        const unsigned char *at = round ? data + part : data;
        ulong left = round ? size - part : part;
        if (left) sys(sendto, fds[1], at, left, MSG_NOSIGNAL, 0, 0);
        for (int turn = 0; turn < 8 && c->client >= 0; turn++) {
            run_stream(c);
            demand(c->at <= sizeof c->data && c->size <= sizeof c->data);
            if (sys(read, fds[1], heard, sizeof heard) > 0) answered++;
        }
    }
    end_stream(c);
    shut(fds[1]);
    return answered;
}

/* A question, and behind its size in the first byte what one of the host's servers says. */
static int served(const unsigned char *data, ulong size) {
    struct pending *p = &r.pending[0];
    struct question q;
    int fds[2];
    ulong asked = size ? data[0] : 0;
    if (asked < 12 || size < asked + 1 || read_question(data + 1, asked, &q)) return 0;
    if (!pair(SOCK_DGRAM, fds)) return 0;
    memset(p, 0, sizeof *p);
    p->fd = fds[0];
    memcpy(p->message, data + 1, asked);
    memcpy(&p->id, "id", 2);
    p->size = (uint)asked;
    p->room = q.room;
    sys(write, fds[1], data + 1 + asked, size - 1 - asked);
    take_answer(p);
    int done = p->fd < 0;
    if (!done) forget(p);
    shut(fds[1]);
    return done;
}

static int examine(const unsigned char *data, ulong size) {
    if (!r.on) make_names();
    if (!size) return 0;
    switch (*data % 3) {
    case 0: return datagram(data + 1, size - 1);
    case 1: return stream(data + 1, size - 1);
    }
    return served(data + 1, size - 1);
}

#include "replay.h"

#ifdef REPLAY
#define HEAD "\0\7\1\0\0\1\0\0\0\0\0"
#define WEB HEAD "\0\3web\0\0\1\0\1"
static const struct seed SEEDS[] = {
    GOOD("\0" WEB), GOOD("\0" HEAD "\1\4many\0\0\1\0\1\0\0\51\20\0\0\0\0\0\0\0"), GOOD("\0" HEAD "\0\3odd\0\0\34\0\1"),
    GOOD("\0" HEAD "\0\0012\0011\0019\00210\7in-addr\4arpa\0\0\14\0\1"), GOOD("\1\0\25" WEB "\0\25" WEB),
    GOOD("\2\25" WEB "\0\7\201\200\0\1\0\1\0\0\0\0\3web\0\0\1\0\1\300\14\0\1\0\1\0\0\0\74\0\4\300\0\2\1"),
};

int main(int argc, char **argv) {
    return replay(SEEDS, sizeof SEEDS / sizeof *SEEDS, argc > 1 ? number(argv[1]) : 0);
}
#endif
