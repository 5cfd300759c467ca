/* See policy.h. */
#include "policy.h"

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};

static int equal(const unsigned char *a, const unsigned char *b, uint bits) {
    for (; bits >= 8; bits -= 8)
        if (*a++ != *b++) return 0;
    return !bits || !((*a ^ *b) >> (8 - bits));
}

int is_v4(const struct address *a) { return equal(a->bytes, mapped, 96); }

/* The first that holds counts. Source: IANA IPv4 and IPv6 Special-Purpose Address Registries, without the ranges for
 * documentation. */
static const struct { unsigned char base[16]; uint prefix; } special[] = {
#define V4(a, b, c, d, prefix) {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d}, 96 + prefix}
    /* Metadata services of clouds: each must be named itself. */
    V4(169, 254, 169, 254, 32), V4(168, 63, 129, 16, 32), V4(100, 100, 100, 200, 32), V4(192, 0, 0, 192, 32),
    V4(169, 254, 170, 2, 32), V4(169, 254, 170, 23, 32), V4(169, 254, 0, 23, 32),
    {{0xfd, 0, 0x0e, 0xc2, [14] = 2, 0x54}, 128}, {{0xfd, 0, 0x0e, 0xc2, [15] = 0x23}, 128},
    {{0xfd, 0x20, 0, 0xce, [14] = 2, 0x54}, 128}, {{0xfe, 0x80, [12] = 0xa9, 0xfe, 0xa9, 0xfe}, 128},
    V4(0, 0, 0, 0, 8), V4(10, 0, 0, 0, 8), V4(100, 64, 0, 0, 10), V4(127, 0, 0, 0, 8), V4(169, 254, 0, 0, 16),
    V4(172, 16, 0, 0, 12), V4(192, 0, 0, 0, 24), V4(192, 168, 0, 0, 16), V4(198, 18, 0, 0, 15), V4(224, 0, 0, 0, 4),
    V4(240, 0, 0, 0, 4),
    {{0}, 64},                                  /* ::, ::1, and old forms of IPv4 addresses */
    {{0, 0x64, 0xff, 0x9b, 0, 1}, 48},          /* local NAT64 */
    {{1}, 64},                                  /* discarded */
    {{0x20, 1}, 32},                            /* Teredo: an IPv4 address is inside */
    {{0xfc}, 7},                                /* unique local */
    {{0xfe, 0x80}, 10}, {{0xfe, 0xc0}, 10}, {{0xff}, 8},
};

int special_prefix(const struct address *a) {
    static const unsigned char nat64[12] = {0, 0x64, 0xff, 0x9b};
    struct address inner;
    memcpy(inner.bytes, mapped, 12);
    int embedded = equal(a->bytes, nat64, 96) ? 12 : a->bytes[0] == 0x20 && a->bytes[1] == 2 /* 6to4 */ ? 2 : 0;
    if (embedded) {
        memcpy(inner.bytes + 12, a->bytes + embedded, 4);
        return special_prefix(&inner) < 0 ? -1 : 128;
    }
    for (ulong i = 0; i < sizeof special / sizeof *special; i++)
        if (equal(a->bytes, special[i].base, special[i].prefix) && !(special[i].prefix == 64 && is_v4(a)))
            return (int)special[i].prefix;
    return -1;
}

static const char *take_number(const char *text, uint *out) {
    uint n = 0;
    for (; *text >= '0' && *text <= '9' && n < 1 << 20; text++) n = n * 10 + (uint)(*text - '0');
    *out = n;
    return *text == ' ' ? text + 1 : 0;
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static int read_rule(struct rule *r, const char *text) {
    uint extra;
    int named = *text == 'n';
    memset(r, 0, sizeof *r);
    if ((!named && *text != 'a') || text[1] != ' ') return 0;
    if (!(text = take_number(text + 2, &r->first)) || !(text = take_number(text, &r->last)) || !(text = take_number(text, &extra)))
        return 0;
    if (named) {
        r->plain = extra;
        r->pattern = text;
        return *text != 0;
    }
    r->prefix = extra;
    for (int i = 0; i < 32; i++) {
        int d = digit(text[i]);
        if (d < 0) return 0;
        r->base.bytes[i / 2] |= (unsigned char)(i % 2 ? d : d << 4);
    }
    return !text[32] && extra <= 128;
}

long read_rules(struct policy *p, char **texts, ulong count) {
    if (count > MAX_RULES) return -E2BIG;
    for (ulong i = 0; i < count; i++)
        if (!read_rule(&p->rules[i], texts[i])) return -EINVAL;
    p->count = (uint)count;
    return 0;
}

static long matched(const char *pattern, const char *name) {
    if (*pattern != '*') return same(pattern, name) ? 0 : -1;
    ulong n = length(name), tail = length(pattern + 1);
    return n > tail && same(pattern + 1, name + n - tail) ? (long)(n - tail) : -1;
}

long allows_name(const struct policy *p, const char *name) {
    long least = -1;
    for (uint i = 0; i < p->count; i++) {
        long n = p->rules[i].pattern ? matched(p->rules[i].pattern, name) : -1;
        if (n >= 0 && (least < 0 || n < least)) least = n;
    }
    return least;
}

const struct rule *allows_connection(const struct policy *p, const char *name, uint port) {
    const struct rule *found = 0;
    for (uint i = 0; i < p->count; i++) {
        const struct rule *r = &p->rules[i];
        if (!r->pattern || port < r->first || port > r->last || matched(r->pattern, name) < 0) continue;
        if (!found || r->plain) found = r;
    }
    return found;
}

int allows_address(const struct policy *p, const struct address *to, uint port, int own) {
    int least = own ? 128 : special_prefix(to);
    for (uint i = 0; i < p->count; i++) {
        const struct rule *r = &p->rules[i];
        if (r->pattern || port < r->first || port > r->last || (int)r->prefix < least || is_v4(to) != is_v4(&r->base)) continue;
        if (equal(to->bytes, r->base.bytes, r->prefix)) return 1;
    }
    return 0;
}

ulong write_address(char *to, const struct address *a) {
    ulong n = 0;
    if (is_v4(a)) {
        for (int i = 12; i < 16; i++) {
            n += decimal(to + n, a->bytes[i]);
            if (i < 15) to[n++] = '.';
        }
        return n;
    }
    for (int i = 0; i < 32; i++) {
        if (i && i % 4 == 0) to[n++] = ':';
        to[n++] = "0123456789abcdef"[i % 2 ? a->bytes[i / 2] & 15 : a->bytes[i / 2] >> 4];
    }
    to[n] = 0;
    return n;
}
