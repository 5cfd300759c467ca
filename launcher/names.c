/* See names.h. */
#include "names.h"

#define HEADER 12
#define TTL_S 5 /* a container's address may go with it */
#define MOST_LINES 256

typedef unsigned char byte;

static uint u16(const byte *p) { return (uint)p[0] << 8 | p[1]; }
static void put16(byte *p, uint n) { p[0] = (byte)(n >> 8); p[1] = (byte)n; }

static char lower(byte c) { return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c); }

static int is_ours(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

int read_question(const byte *m, ulong size, struct question *q) {
    memset(q, 0, sizeof *q);
    q->room = 512;
    if (size < HEADER || m[2] & 0x80 || u16(m + 4) != 1 || u16(m + 6)) return FORMAT_WRONG;
    if (m[2] & 0x78) return NOT_IMPLEMENTED; /* an opcode other than a query */
    ulong at = HEADER, n = 0;
    int strange = 0;
    for (;;) {
        if (at >= size) return FORMAT_WRONG;
        ulong label = m[at++];
        if (!label) break;
        if (label > 63 || at + label > size || n + label + 1 >= sizeof q->name) return FORMAT_WRONG;
        if (n) q->name[n++] = '.';
        for (ulong i = 0; i < label; i++) {
            char c = lower(m[at + i]);
            strange |= !is_ours(c) || c == '.';
            q->name[n++] = c;
        }
        at += label;
    }
    if (at + 4 > size) return FORMAT_WRONG;
    q->type = u16(m + at);
    q->end = (uint)at + 4;
    if (strange || u16(m + at + 2) != 1 /* IN */) q->name[0] = 0;
    else q->name[n] = 0;
    at += 4;
    if (u16(m + 10) && at + 11 <= size && !m[at] && u16(m + at + 1) == TYPE_OPT) {
        q->edns = 1;
        q->room = u16(m + at + 3);
        if (q->room < 512) q->room = 512;
        if (q->room > DNS_MOST) q->room = DNS_MOST;
    }
    return 0;
}

static uint skip_name(const byte *m, uint size, uint at) {
    while (at < size && m[at]) {
        if ((m[at] & 0xc0) == 0xc0) return at + 2;
        if (m[at] & 0xc0) return size;
        at += 1U + m[at];
    }
    return at + 1;
}

ulong read_addresses(const byte *m, uint size, uint at, uint type, byte *to, uint room, uint *count) {
    static const byte v4[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    ulong ttl = ~0U;
    *count = 0;
    for (uint left = u16(m + 6); left && *count < room; left--) {
        at = skip_name(m, size, at);
        if (size < 10 || at > size - 10) break;
        uint kind = u16(m + at), class = u16(m + at + 2), bytes = u16(m + at + 8);
        ulong seconds = (ulong)u16(m + at + 4) << 16 | u16(m + at + 6);
        at += 10;
        if (bytes > size - at) break;
        if (class == 1 && kind == type && bytes == (type == TYPE_A ? 4 : 16)) {
            byte *place = to + 16 * (*count)++;
            if (type == TYPE_A) memcpy(place, v4, 12);
            memcpy(place + (16 - bytes), m + at, bytes);
        }
        if (seconds < ttl) ttl = seconds;
        at += bytes;
    }
    return ttl;
}

/* The header of an answer; the question stays as it was asked. */
static void head(byte *m, int code, uint answers, uint more) {
    m[2] = (byte)(0x84 | (m[2] & 0x79)); /* an answer, with authority; opcode and "recursion desired" are the client's */
    m[3] = (byte)(0x80 | code);
    put16(m + 6, answers);
    put16(m + 8, 0);
    put16(m + 10, more);
}

static uint put_opt(byte *m, uint at, const struct question *q) {
    static const byte opt[11] = {0, 0, TYPE_OPT, DNS_MOST >> 8, DNS_MOST & 255};
    if (!q->edns) return at;
    memcpy(m + at, opt, sizeof opt);
    return at + sizeof opt;
}

uint answer_empty(byte *m, const struct question *q, int code) {
    if (!q->end) { /* not even a question: the header alone */
        head(m, code, 0, 0);
        put16(m + 4, 0);
        return HEADER;
    }
    head(m, code, 0, q->edns);
    return put_opt(m, q->end, q);
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* "4.3.2.10.in-addr.arpa" to "=0a020304", and the same for IPv6. 0: it is no such name. */
static int reversed(const char *name, char out[40]) {
    static const char four[] = "in-addr.arpa", six[] = "ip6.arpa";
    byte parts[32];
    ulong count = 0, at = 0;
    while (count < 32) {
        if (same(name + at, four) || same(name + at, six)) break;
        ulong n = 0, digits = 0;
        int base = 0;
        while (name[at] && name[at] != '.' && digits < 4) {
            int d = hex(name[at++]);
            if (d < 0) return 0;
            n = n * 10 + (ulong)d; /* a nibble has one digit: no base matters there */
            base |= d > 9;
            digits++;
        }
        if (!digits || name[at] != '.' || n > 255 || (base && digits > 1)) return 0;
        parts[count++] = (byte)n;
        at++;
    }
    int v4 = same(name + at, four) && count == 4;
    if (!v4 && !(same(name + at, six) && count == 32)) return 0;
    char *to = out;
    *to++ = '=';
    for (ulong i = count; i--;) {
        if (!v4 && parts[i] > 15) return 0;
        if (v4) *to++ = "0123456789abcdef"[parts[i] >> 4];
        *to++ = "0123456789abcdef"[parts[i] & 15];
    }
    *to = 0;
    return 1;
}

static long read_file(const char *directory, const char *name, char *text, ulong room) {
    char path[4096];
    ulong a = length(directory), b = length(name);
    if (a + b + 2 > sizeof path) return -ENAMETOOLONG;
    memcpy(path, directory, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b + 1);
    if (!b) path[a] = 0;
    int fd = (int)open_at(AT_FDCWD, path, O_RDONLY, 0);
    if (fd < 0) return fd;
    long n = sys(read, fd, text, room - 1);
    shut(fd);
    text[n < 0 ? 0 : n] = 0;
    return n;
}

/* The next line's words, cut in place. */
static char *next_line(char **at, char *words[3]) {
    char *line = *at;
    if (!*line) return 0;
    words[0] = line;
    words[1] = words[2] = 0;
    int n = 1;
    for (; **at && **at != '\n'; (*at)++)
        if (**at == ' ') {
            **at = 0;
            if (n < 3) words[n++] = *at + 1;
        }
    if (**at) *(*at)++ = 0;
    return line;
}

static int lives(const struct names *names, const char *id) {
    char path[4096];
    ulong a = length(names->run), b = length(id);
    if (a + b + 2 > sizeof path || !b || *id == '.' || find(id, '/')) return 0;
    memcpy(path, names->run, a);
    path[a] = '/';
    memcpy(path + a + 1, id, b + 1);
    return sys(faccessat, AT_FDCWD, path, 0) == 0;
}

/* A record's data: an address in hexadecimal digits, or a name as labels. 0: there is none. */
static uint record_data(const char *word, uint type, byte *out) {
    uint n = 0;
    if (!word || *word == '-') return 0;
    if (type == TYPE_PTR) {
        while (*word && n < 250) {
            uint start = n++;
            while (*word && *word != '.' && n - start <= 63 && n < 250) out[n++] = (byte)*word++;
            out[start] = (byte)(n - start - 1);
            if (*word == '.') word++;
        }
        out[n] = 0;
        return n + 1;
    }
    for (; word[0] && word[1] && n < 16; word += 2) {
        int high = hex(word[0]), low = hex(word[1]);
        if (high < 0 || low < 0) return 0;
        out[n++] = (byte)(high << 4 | low);
    }
    return n == (type == TYPE_A ? 4U : 16U) ? n : 0;
}

static uint put_record(byte *m, uint end, uint type, const byte *data, uint size) {
    put16(m + end, 0xc000 | HEADER);
    put16(m + end + 2, type);
    put16(m + end + 4, 1);
    put16(m + end + 6, 0);
    put16(m + end + 8, TTL_S);
    put16(m + end + 10, size);
    memcpy(m + end + 12, data, size);
    return end + 12 + size;
}

uint answer_address(byte *m, const struct question *q, const byte address[4]) {
    head(m, ANSWERED, 1, q->edns);
    return put_opt(m, put_record(m, q->end, TYPE_A, address, 4), q);
}

uint answer_own(byte *m, const struct question *q, const struct names *names, uint limit, uint turn) {
    static char networks[4096], text[16384];
    static struct { byte data[256]; uint size; } found[MOST_LINES];
    char reverse[40], *at = networks, *words[3], *entry[3];
    const char *name = q->name;
    uint count = 0, known = 0;
    int pointer = q->type == TYPE_PTR && reversed(name, reverse);
    if (!*name || *name == '.' || *name == '=' || (q->type == TYPE_PTR && !pointer)) return 0;
    if (read_file(names->networks, "", networks, sizeof networks) < 0) return 0;
    while (next_line(&at, words)) {
        char directory[4096], *line = text;
        ulong a = length(names->directory), b = length(words[0]);
        if (a + b + 2 > sizeof directory || !b || *words[0] == '.' || find(words[0], '/')) continue;
        memcpy(directory, names->directory, a);
        directory[a] = '/';
        memcpy(directory + a + 1, words[0], b + 1);
        if (read_file(directory, pointer ? reverse : name, text, sizeof text) < 0) continue;
        while (next_line(&line, entry) && count < MOST_LINES) {
            if (!lives(names, entry[0])) continue;
            known = 1;
            found[count].size = 0;
            if (pointer || q->type == TYPE_A) found[count].size = record_data(entry[1], q->type, found[count].data);
            if (q->type == TYPE_AAAA) found[count].size = record_data(entry[2], q->type, found[count].data);
            count += found[count].size != 0;
        }
    }
    if (!known) return 0;
    uint end = q->end, put = 0, spare = q->edns ? 11 : 0;
    for (uint i = 0; i < count; i++) {
        uint which = (i + turn) % count, size = found[which].size;
        if (end + 12 + size + spare > limit) {
            m[2] |= 2; /* truncated: ask by TCP */
            break;
        }
        end = put_record(m, end, q->type, found[which].data, size);
        put++;
    }
    byte truncated = m[2] & 2;
    head(m, ANSWERED, put, q->edns);
    if (put < count) m[2] |= truncated;
    return put_opt(m, end, q);
}
