/* For whom a connection is, by its first bytes: the server name of a TLS ClientHello, or the Host of an HTTP/1 request.
 * Pure. Whoever sent them is hostile: what can be read in two ways is refused. Source: RFC 8446, 6066, 9110, 9112. */
#ifndef KIST_SNIFF_H
#define KIST_SNIFF_H
#include "sys.h"

#define SNIFF_MOST 16384 /* bytes in which it has to be said */
#define NAME_ROOM 256

struct sniffed {
    char name[NAME_ROOM];   /* in lower case; only letters, digits, and any of - _ . : [ ] */
    uint port;              /* behind the name; 0: none */
    const char *why;        /* when it is not to be let through */
};

enum sniff { SNIFF_MORE, SNIFF_NAMED, SNIFF_REFUSED };
enum sniff sniff(const unsigned char *data, ulong size, struct sniffed *found);
#endif
