/* What the relay denied, and packets that were dropped inside, as lines of a file: src/kist/engine/denials.py reads it. */
#include "relay.h"

#define DENIALS_AT_ONCE 200UL
#define DENIAL_NS 50000000UL /* and then one each */

typedef unsigned char byte;

static struct { int fd; ulong most, size, said_until, unsaid; } log = {.fd = -1};

void denials_to(int fd) { log.fd = fd; }

/* The file keeps its newer half: it is never longer than was asked for. */
static void make_room(ulong bytes) {
    static byte kept[1 << 19];
    if (log.size + bytes <= log.most) return;
    ulong half = log.most / 2 < sizeof kept ? log.most / 2 : sizeof kept;
    ulong from = log.size > half ? log.size - half : 0;
    long n = sys(pread64, log.fd, kept, half, from), start = 0;
    while (start < n && kept[start] != '\n') start++;
    start++;
    sys(ftruncate, log.fd, 0);
    log.size = 0;
    if (start < n && sys(write, log.fd, kept + start, n - start) == n - start) log.size = (ulong)(n - start);
}

static ulong put(char *line, ulong n, const char *text) {
    while (*text && n < 900) line[n++] = *text++;
    return n;
}

static void write_line(char *line, ulong n) {
    line[n++] = '\n';
    make_room(n);
    if (sys(write, log.fd, line, n) == (long)n) log.size += n;
}

/* TIME PROTOCOL ADDRESS PORT NAME WHY...: src/kist/engine/denials.py reads it. */
void denied(const char *protocol, const struct address *to, uint port, const char *name, const char *why, const char *more) {
    char line[1024];
    if (log.said_until < now) log.said_until = now;
    if (log.said_until - now > DENIALS_AT_ONCE * DENIAL_NS) {
        log.unsaid++;
        return;
    }
    log.said_until += DENIAL_NS;
    memcpy(line, log_stamp(), 30);
    ulong n = 30;
    if (log.unsaid) {
        n = put(line, n, " more - 0 - ");
        n += decimal(line + n, log.unsaid);
        n = put(line, n, " more were denied");
        write_line(line, n);
        log.unsaid = 0;
        n = 30;
    }
    line[n++] = ' ';
    n = put(line, n, protocol);
    line[n++] = ' ';
    if (to) n += write_address(line + n, to);
    else line[n++] = '-';
    line[n++] = ' ';
    n += decimal(line + n, port);
    line[n++] = ' ';
    n = put(line, n, *name ? name : "-");
    line[n++] = ' ';
    n = put(line, n, why);
    write_line(line, put(line, n, more));
}

/* Packets that were dropped inside, in the kernel's words: attribute 9 is the packet's beginning. */
static void take_packet(const byte *p, ulong size) {
    struct address to = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255}};
    uint four = size && *p >> 4 == 4, head = four ? (*p & 15) * 4U : 40, protocol, port = 0;
    char number[21];
    if (size < head || head < 20) return;
    protocol = p[four ? 9 : 6];
    memcpy(to.bytes + (four ? 12 : 0), p + (four ? 16 : 24), four ? 4 : 16);
    int ports = protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33;
    if (ports && size >= head + 4) port = (uint)p[head + 2] << 8 | p[head + 3];
    if (protocol == 6 && size >= head + 14 && (p[head + 13] & 0x12) != 2 /* SYN alone */) return;
    decimal(number, protocol);
    const char *name = protocol == 6 ? "tcp" : protocol == 17 ? "udp" : protocol == 1 || protocol == 58 ? "icmp" : protocol == 132 ? "sctp" : number;
    denied(name, &to, port, "", protocol == 17 && port == 53 ? "another name server" : protocol == 6 ? "not by the relay" : "only TCP goes out", "");
}

void take_dropped(int from) {
    static byte m[65536];
    for (int round = 0; round < 64; round++) {
        long size = sys(recvfrom, from, m, sizeof m, 0, 0, 0);
        if (size < 0) return;
        for (ulong at = 0; at + 20 <= (ulong)size;) {
            uint whole, kind;
            memcpy(&whole, m + at, 4);
            if (whole < 20 || whole > (ulong)size - at) return;
            for (ulong a = at + 20; a + 4 <= at + whole;) {
                kind = m[a + 2] | (uint)(m[a + 3] & 0x3f) << 8;
                uint bytes = m[a] | (uint)m[a + 1] << 8;
                if (bytes < 4 || bytes > at + whole - a) break;
                if (kind == 9 && m[at + 4] == 0 && m[at + 5] == 4) take_packet(m + a + 4, bytes - 4);
                a += (bytes + 3) & ~3U;
            }
            at += (whole + 3) & ~3U;
        }
    }
}

long denials_open(const char *path, ulong most) {
    struct statx st;
    int fd = (int)sys(openat, AT_FDCWD, path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return fd;
    memset(&st, 0, sizeof st);
    sys(statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &st);
    log.size = st.stx_size;
    log.most = most;
    return fd;
}
