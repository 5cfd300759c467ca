/* See sniff.h. */
#include "sniff.h"

typedef unsigned char byte;

struct span { const byte *at, *end; };

static enum sniff refuse(struct sniffed *found, const char *why) {
    found->name[0] = 0;
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
        if (had > whole) return refuse(found, "something behind the ClientHello");
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

static int is_host(struct span name) {
    static const char host[] = "host";
    ulong i = 0;
    while (i < 4 && name.at + i < name.end && lower(name.at[i]) == (byte)host[i]) i++;
    return i == 4 && name.end - name.at == 4;
}

static int take_host(struct sniffed *found, struct span value) {
    while (value.at < value.end && (*value.at == ' ' || *value.at == '\t')) value.at++;
    while (value.at < value.end && (value.end[-1] == ' ' || value.end[-1] == '\t')) value.end--;
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

static enum sniff http(const byte *data, ulong size, struct sniffed *found) {
    struct span s = {data, data + size}, line;
    int hosts = 0, first = 1;
    for (;;) {
        int there = take_line(&s, &line);
        if (there < 0) return refuse(found, "a malformed HTTP request");
        if (!there) break;
        if (first && !request_line(line)) return refuse(found, "neither TLS nor HTTP to the server itself");
        if (!first && line.at == line.end) return hosts ? SNIFF_NAMED : refuse(found, "an HTTP request without a Host");
        if (!first) {
            const byte *colon = line.at;
            while (colon < line.end && is_token(*colon)) colon++;
            if (colon == line.at || colon == line.end || *colon != ':') return refuse(found, "a malformed HTTP request");
            if (is_host((struct span){line.at, colon})) {
                if (hosts++) return refuse(found, "two Hosts");
                if (!take_host(found, (struct span){colon + 1, line.end})) return refuse(found, "a malformed Host");
            }
        }
        first = 0;
    }
    found->name[0] = 0;
    return size >= SNIFF_MOST ? refuse(found, "an HTTP request whose head is too long") : SNIFF_MORE;
}

enum sniff sniff(const byte *data, ulong size, struct sniffed *found) {
    memset(found, 0, sizeof *found);
    if (!size) return SNIFF_MORE;
    if (*data == 22) return tls(data, size, found);
    if (*data >= 'A' && *data <= 'Z') return http(data, size, found);
    return refuse(found, "neither TLS nor HTTP");
}
