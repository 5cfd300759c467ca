/* See sniff.h. */
#include "sniff.h"

typedef unsigned char byte;

struct span { const byte *at, *end; };

static enum sniff refuse(struct sniffed *found, const char *why) {
    found->name[0] = 0;
    found->port = 0;
    found->why = why;
    return SNIFF_REFUSED;
}

/* A number of so many bytes, the first the highest; -1 where they are not all there. */
static long take(struct span *s, uint bytes) {
    if ((ulong)(s->end - s->at) < bytes) return -1;
    long n = 0;
    while (bytes--) n = n << 8 | *s->at++;
    return n;
}

/* What is behind its own size; 0: it is not all there. */
static int take_span(struct span *s, uint bytes, struct span *out) {
    long n = take(s, bytes);
    if (n < 0 || n > s->end - s->at) return 0;
    out->at = s->at;
    out->end = s->at += n;
    return 1;
}

static int is_name(byte c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

static byte lower(byte c) { return c >= 'A' && c <= 'Z' ? (byte)(c + 32) : c; }

static int take_name(struct sniffed *found, struct span s) {
    ulong n = (ulong)(s.end - s.at);
    if (!n || n >= NAME_ROOM) return 0;
    for (ulong i = 0; i < n; i++) {
        byte c = lower(s.at[i]);
        if (!is_name(c)) return 0;
        found->name[i] = (char)c;
    }
    found->name[n] = 0;
    return 1;
}

/* --- TLS */

static enum sniff server_name(struct span list, struct sniffed *found) {
    struct span names, name;
    if (!take_span(&list, 2, &names) || list.at != list.end) return refuse(found, "a malformed server name");
    if (take(&names, 1) != 0 || !take_span(&names, 2, &name) || names.at != names.end || !take_name(found, name))
        return refuse(found, "a malformed server name");
    return SNIFF_NAMED;
}

static enum sniff client_hello(struct span hello, struct sniffed *found) {
    struct span skipped, extensions, body;
    enum sniff result = refuse(found, "a ClientHello without a server name");
    if (take(&hello, 2) < 0 || hello.end - hello.at < 32) return refuse(found, "a malformed ClientHello");
    hello.at += 32;
    if (!take_span(&hello, 1, &skipped) || !take_span(&hello, 2, &skipped) || !take_span(&hello, 1, &skipped))
        return refuse(found, "a malformed ClientHello");
    if (hello.at == hello.end) return result;
    if (!take_span(&hello, 2, &extensions) || hello.at != hello.end) return refuse(found, "a malformed ClientHello");
    while (extensions.at < extensions.end) {
        long kind = take(&extensions, 2);
        if (kind < 0 || !take_span(&extensions, 2, &body)) return refuse(found, "a malformed ClientHello");
        if (kind) continue;
        if (result == SNIFF_NAMED) return refuse(found, "two server names");
        result = server_name(body, found);
        if (result != SNIFF_NAMED) return result;
    }
    return result;
}

/* Records, each a part of the message; that is put together and then read. */
static enum sniff tls(const byte *data, ulong size, struct sniffed *found) {
    static byte message[SNIFF_MOST];
    struct span s = {data, data + size}, record;
    ulong had = 0;
    for (;;) {
        if (s.end - s.at < 5) break;
        if (s.at[0] != 22 /* handshake */ || s.at[1] != 3) return refuse(found, "no TLS handshake");
        s.at += 3;
        long n = take(&s, 2);
        if (!n || n > SNIFF_MOST) return refuse(found, "a malformed TLS record");
        record = (struct span){s.at, s.end - s.at < n ? s.end : s.at + n};
        s.at = record.end;
        ulong part = (ulong)(record.end - record.at);
        if (part > sizeof message - had) return refuse(found, "a ClientHello that is too long");
        memcpy(message + had, record.at, part);
        had += part;
        if (had < 4) continue;
        if (message[0] != 1) return refuse(found, "no ClientHello");
        ulong whole = 4 + ((ulong)message[1] << 16 | (ulong)message[2] << 8 | message[3]);
        if (whole > SNIFF_MOST) return refuse(found, "a ClientHello that is too long");
        if (had > whole || (had == whole && part < (ulong)n)) return refuse(found, "something behind the ClientHello");
        if (had == whole) return client_hello((struct span){message + 4, message + had}, found);
    }
    return size >= SNIFF_MOST ? refuse(found, "a ClientHello that is too long") : SNIFF_MORE;
}

/* --- HTTP/1 */

static int is_token(byte c) {
    return is_name(lower(c)) || c == '!' || (c >= '#' && c <= '\'') || c == '*' || c == '+' || c == '^' || c == '`' || c == '|' || c == '~';
}

/* The next line without its end. 1: there is one; 0: not yet; -1: it has an end, or a byte, of another kind. */
static int take_line(struct span *s, struct span *line) {
    for (const byte *p = s->at; p < s->end; p++) {
        if (*p == '\r' && p + 1 == s->end) return 0;
        if (*p == '\r' && p[1] == '\n') {
            *line = (struct span){s->at, p};
            s->at = p + 2;
            return 1;
        }
        if (*p == '\r' || *p == '\n' || !*p) return -1;
    }
    return 0;
}

/* `METHOD /path HTTP/1.1`: a path only. What names another server in its first line is for a proxy. */
static int request_line(struct span s) {
    while (s.at < s.end && *s.at >= 'A' && *s.at <= 'Z') s.at++;
    if (s.end - s.at < 2 || *s.at++ != ' ' || (*s.at != '/' && *s.at != '*')) return 0;
    while (s.at < s.end && *s.at > ' ' && *s.at < 127) s.at++;
    static const char version[] = " HTTP/1.";
    if (s.end - s.at != sizeof version) return 0;
    for (ulong i = 0; i < sizeof version - 1; i++)
        if (*s.at++ != (byte)version[i]) return 0;
    return *s.at == '0' || *s.at == '1';
}

static int is_word(struct span s, const char *word) {
    while (*word && s.at < s.end && lower(*s.at) == (byte)*word) s.at++, word++;
    return !*word && s.at == s.end;
}

static struct span trimmed(struct span s) {
    while (s.at < s.end && (*s.at == ' ' || *s.at == '\t')) s.at++;
    while (s.at < s.end && (s.end[-1] == ' ' || s.end[-1] == '\t')) s.end--;
    return s;
}

static int take_host(struct sniffed *found, struct span value) {
    const byte *colon = value.at;
    while (colon < value.end && *colon != ':') colon++;
    found->port = 0;
    if (colon + 1 == value.end) return 0;
    for (const byte *p = colon + 1; p < value.end; p++) {
        if (*p < '0' || *p > '9' || (found->port = found->port * 10 + *p - '0') > 65535) return 0;
    }
    if (colon < value.end && !found->port) return 0;
    value.end = colon;
    return take_name(found, value);
}

/* At most so many digits, and nothing else; -1 for anything else. */
static long read_digits(struct span s, int base, long most) {
    long n = 0;
    if (s.at == s.end || s.end - s.at > most) return -1;
    for (; s.at < s.end; s.at++) {
        byte c = lower(*s.at);
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : base;
        if (digit >= base) return -1;
        n = n * base + digit;
    }
    return n;
}

struct head { int hosts, lengths, codings; long body; };

/* What it means for whom the request is and where it ends; of each at most one. Returns what is wrong, or 0. */
static const char *take_field(struct sniffed *found, struct head *head, struct span line) {
    const byte *colon = line.at;
    while (colon < line.end && is_token(*colon)) colon++;
    if (colon == line.at || colon == line.end || *colon != ':') return "a malformed HTTP request";
    struct span name = {line.at, colon}, value = trimmed((struct span){colon + 1, line.end});
    if (is_word(name, "host")) {
        if (head->hosts++) return "two Hosts";
        if (!take_host(found, value)) return "a malformed Host";
    } else if (is_word(name, "content-length")) {
        head->body = read_digits(value, 10, 15);
        if (head->lengths++ || head->body < 0) return "an HTTP request of doubtful length";
    } else if (is_word(name, "transfer-encoding")) {
        if (head->codings++ || !is_word(value, "chunked")) return "an HTTP request of doubtful length";
    }
    return 0;
}

static enum sniff http(const byte *data, ulong size, struct sniffed *found) {
    struct span s = {data, data + size}, line;
    struct head head = {0, 0, 0, 0};
    int version = 0;
    for (int first = 1;; first = 0) {
        int there = take_line(&s, &line);
        if (there < 0) return refuse(found, "a malformed HTTP request");
        if (!there) break;
        if (first) {
            if (!request_line(line)) return refuse(found, "neither TLS nor HTTP to the server itself");
            version = line.end[-1] - '0';
        } else if (line.at == line.end) {
            if (!head.hosts) return refuse(found, "an HTTP request without a Host");
            if (head.codings && (head.lengths || !version)) return refuse(found, "an HTTP request of doubtful length");
            found->whole = (ulong)(s.at - data) + (ulong)head.body;
            found->next = head.codings ? CHUNK : REQUEST;
            return SNIFF_NAMED;
        } else {
            const char *wrong = take_field(found, &head, line);
            if (wrong) return refuse(found, wrong);
        }
    }
    found->name[0] = 0;
    return size >= SNIFF_MOST ? refuse(found, "an HTTP request whose head is too long") : SNIFF_MORE;
}

static enum sniff crlf(const byte *data, ulong size, struct sniffed *found) {
    if (size && (*data != '\r' || (size > 1 && data[1] != '\n'))) return refuse(found, "a malformed chunk");
    return size < 2 ? SNIFF_MORE : SNIFF_NAMED;
}

/* Neither extensions nor trailers: nobody sends them, and servers differ about them. */
enum sniff sniff_chunk(const byte *data, ulong size, struct sniffed *found) {
    struct span s = {data, data + (size < 32 ? size : 32)}, line;
    memset(found, 0, sizeof *found);
    int there = take_line(&s, &line);
    if (!there) return size < 32 ? SNIFF_MORE : refuse(found, "a malformed chunk");
    long n = there < 0 ? -1 : read_digits(line, 16, 12);
    if (n < 0) return refuse(found, "a malformed chunk");
    if (!n) {
        enum sniff end = crlf(s.at, (ulong)(data + size - s.at), found);
        if (end != SNIFF_NAMED) return end;
        s.at += 2;
    }
    found->whole = (ulong)(s.at - data) + (ulong)n;
    found->next = n ? CHUNK_END : REQUEST;
    return SNIFF_NAMED;
}

enum sniff sniff_chunk_end(const byte *data, ulong size, struct sniffed *found) {
    memset(found, 0, sizeof *found);
    found->whole = 2;
    found->next = CHUNK;
    return crlf(data, size, found);
}

enum sniff sniff(const byte *data, ulong size, struct sniffed *found) {
    memset(found, 0, sizeof *found);
    if (!size) return SNIFF_MORE;
    if (*data == 22) return tls(data, size, found);
    if (*data >= 'A' && *data <= 'Z') return http(data, size, found);
    return refuse(found, "neither TLS nor HTTP");
}
