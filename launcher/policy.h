/* What a container may reach: rules, and the addresses that no rule for names covers. Pure. */
#ifndef KIST_POLICY_H
#define KIST_POLICY_H
#include "sys.h"

#define MAX_RULES 256

/* IPv4 as ::ffff:1.2.3.4 */
struct address { unsigned char bytes[16]; };

/* Of src/kist/plan/egress.py, as text: "n FIRST LAST PLAIN PATTERN" or "a FIRST LAST PREFIX DIGITS". */
struct rule {
    const char *pattern;        /* of names: "pypi.org", "*.pypi.org", "*"; 0: of addresses */
    uint first, last;           /* ports */
    uint plain;                 /* names: what is said inside the connection does not matter */
    uint prefix;
    struct address base;
};
struct policy { struct rule rules[MAX_RULES]; uint count; };

long read_rules(struct policy *p, char **texts, ulong count);

/* How many bytes of the name stand for the `*` of the rule that lets it be asked for; -1: none does. */
long allows_name(const struct policy *p, const char *name);
/* The rule that lets a connection to the name be made. */
const struct rule *allows_connection(const struct policy *p, const char *name, uint port);
int allows_address(const struct policy *p, const struct address *to, uint port, int own);

/* How long the prefix is of the range that the address is in, when that is not for all the world: a rule must name it,
 * or a part of it, to let it through. -1: it is a public address. */
int special_prefix(const struct address *a);
int is_v4(const struct address *a);
ulong write_address(char *to, const struct address *a); /* at most 40 bytes; returns how many */
#endif
