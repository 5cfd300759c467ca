/* Any bytes as what the relay reads: a connection's first, a question for names, an answer, and where rules lead.
 *
 * With clang's libFuzzer a coverage-guided target; with REPLAY it makes inputs itself (`relay ROUNDS`), by changing good
 * ones, or says what the relay sees (`relay ask` and `relay rules RULE... -- ADDRESS PORT OWN | NAME PORT`). Each input is
 * a copy of exactly its size: a byte too far is seen. */
#include "../../launcher/names.h"
#include "../../launcher/policy.h"
#include "../../launcher/sniff.h"

void *malloc(ulong size);
void free(void *memory);

static void demand(int holds) { if (!holds) __builtin_trap(); }
static unsigned char *copy_of(const unsigned char *data, ulong size) {
    unsigned char *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    return copy;
}

/* Whatever pieces it comes in, the verdict is the same. */
static int first_bytes(const unsigned char *data, ulong size) {
    struct sniffed whole, part;
    enum sniff verdict = sniff(data, size, &whole);
    demand(length(whole.name) < NAME_ROOM && whole.port < 65536 && (verdict == SNIFF_NAMED) == !!*whole.name);
    demand((verdict == SNIFF_REFUSED) == !!whole.why || verdict == SNIFF_NAMED);
    for (ulong n = 0; n < size; n += 1 + size / 16) {
        unsigned char *piece = copy_of(data, n);
        enum sniff early = sniff(piece, n, &part);
        free(piece);
        demand(early == SNIFF_MORE || (early == verdict && same(part.name, whole.name) && part.port == whole.port && part.whole == whole.whole && part.next == whole.next));
    }
    return verdict == SNIFF_NAMED;
}

static enum sniff in_turn(enum expects next, const unsigned char *data, ulong size, struct sniffed *found) {
    return next == CHUNK ? sniff_chunk(data, size, found) : next == CHUNK_END ? sniff_chunk_end(data, size, found) : sniff(data, size, found);
}

/* A connection: what belongs together is at least a byte, and what was said of a piece holds for more of it. */
static int stream(const unsigned char *data, ulong size) {
    struct sniffed found, early;
    enum expects next = ANYTHING;
    int count = 0;
    for (ulong at = 0; at < size; at += found.whole, next = found.next, count++) {
        enum sniff verdict = in_turn(next, data + at, size - at, &found);
        for (ulong n = 1; n < size - at && n < 40; n++) {
            unsigned char *piece = copy_of(data + at, n);
            enum sniff said = in_turn(next, piece, n, &early);
            free(piece);
            demand(said == SNIFF_MORE || (said == verdict && early.whole == found.whole && early.next == found.next));
        }
        if (verdict != SNIFF_NAMED || !found.whole) break;
        demand(found.next != ANYTHING);
    }
    return count;
}

static int question(unsigned char *data, ulong size) {
    static unsigned char room[DNS_MOST + 64];
    static const unsigned char address[4] = {198, 18, 1, 1};
    struct question q;
    int code = read_question(data, size, &q);
    demand(length(q.name) < sizeof q.name && q.end <= size);
    if (size > DNS_MOST || size < 12) return 0;
    memcpy(room, data, size);
    demand(answer_empty(room, &q, code) <= sizeof room);
    if (!code) demand(answer_address(room, &q, address) <= sizeof room);
    return !code && *q.name;
}

static int reply(const unsigned char *data, ulong size) {
    unsigned char to[8 * 16];
    uint count;
    if (size < 12 || size > 65535) return 0;
    for (uint type = TYPE_A; type <= TYPE_AAAA; type += TYPE_AAAA - TYPE_A) {
        read_addresses(data, (uint)size, data[11], type, to, 8, &count);
        demand(count <= 8);
        if (count) return 1;
    }
    return 0;
}

/* The first byte chooses the reader. */
static int examine(const unsigned char *data, ulong size) {
    if (!size) return 0;
    unsigned char *text = copy_of(data + 1, size - 1);
    int accepted = *data % 4 == 0 ? first_bytes(text, size - 1) : *data % 4 == 1 ? question(text, size - 1)
                 : *data % 4 == 2 ? reply(text, size - 1) : stream(text, size - 1);
    free(text);
    return accepted;
}

#include "replay.h"

#ifdef REPLAY
static const struct seed SEEDS[] = {
    GOOD("\0\26\3\1\0\110\1\0\0\104\3\3rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\0\0\2\23\1\1\0\0\31\0\0\0\16\0\14\0\0\11pypi.test\0\53\0\3\2\3\4"),
    GOOD("\0GET /simple/?a HTTP/1.1\r\nUser-Agent: x y\r\nhost: PyPI.test:80\r\nAccept: */*\r\n\r\n"),
    GOOD("\3POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.0\r\nHost: b\r\n\r\n"),
    GOOD("\1\0\7\1\0\0\1\0\0\0\0\0\1\4pypi\4test\0\0\1\0\1\0\0\51\20\0\0\0\0\0\0\0"),
    GOOD("\2\0\7\201\200\0\1\0\2\0\0\0\33\4pypi\4test\0\0\1\0\1\300\14\0\1\0\1\0\0\0\74\0\4\313\0\161\12\300\14\0\5\0\1\0\0\0\74\0\2\300\14"),
};

static void say(const char *text) { sys(write, 1, text, length(text)); }

static int ask(void) {
    static unsigned char input[SNIFF_MOST];
    struct sniffed found;
    ulong size = 0;
    for (long n; size < sizeof input && (n = sys(read, 0, input + size, sizeof input - size)) > 0;) size += (ulong)n;
    enum sniff verdict = SNIFF_NAMED;
    enum expects next = ANYTHING;
    for (ulong at = 0; at < size && verdict == SNIFF_NAMED; at += found.whole) {
        unsigned char *data = copy_of(input + at, size - at);
        verdict = in_turn(next, data, size - at, &found);
        free(data);
        char port[21];
        decimal(port, found.port);
        if (at) say(" ");
        say(verdict == SNIFF_MORE ? "more" : verdict == SNIFF_REFUSED ? found.why : *found.name ? found.name : ".");
        if (verdict == SNIFF_NAMED && found.port) say(":"), say(port);
        if (!found.whole) break;
        next = found.next;
    }
    if (!size) say("more");
    return 0;
}

/* Behind `--`: 32 hexadecimal digits, a port, whether it is the host's own; or a name and a port. */
static int rules(int argc, char **argv) {
    static struct policy policy;
    static const char digits[] = "0123456789abcdef";
    int count = 0;
    while (count < argc && !same(argv[count], "--")) count++;
    if (read_rules(&policy, argv, (ulong)count) < 0) return 1;
    argv += count + 1;
    if (argc - count == 3) {
        const struct rule *r = allows_connection(&policy, argv[0], (uint)number(argv[1]));
        say(allows_name(&policy, argv[0]) < 0 ? "unknown" : !r ? "other port" : r->plain ? "plain" : "named");
        return 0;
    }
    struct address a = {{0}};
    for (int i = 0; i < 32; i++) {
        ulong d = 0;
        while (digits[d] != argv[0][i]) d++;
        a.bytes[i / 2] |= (unsigned char)(i % 2 ? d : d << 4);
    }
    char text[64];
    text[write_address(text, &a)] = 0;
    say(text);
    say(special_prefix(&a) < 0 ? " public" : " special");
    say(allows_address(&policy, &a, (uint)number(argv[1]), *argv[2] == '1') ? " allowed" : " denied");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && same(argv[1], "ask")) return ask();
    if (argc > 1 && same(argv[1], "rules")) return rules(argc - 2, argv + 2);
    return replay(SEEDS, sizeof SEEDS / sizeof *SEEDS, argc > 1 ? number(argv[1]) : 0);
}
#endif
