/* For whom a connection is, by its first bytes: the server name of a TLS ClientHello, or the Host of an HTTP/1 request.
 * Of HTTP also where the request ends, and so the next one begins, which may be for another. Pure. Whoever sent them is
 * hostile: what can be read in two ways is refused. Source: RFC 8446, 6066, 9110, 9112. */
#ifndef KIST_SNIFF_H
#define KIST_SNIFF_H
#include "sys.h"

#define SNIFF_MOST 16384 /* bytes in which it has to be said */
#define NAME_ROOM 256

enum expects { ANYTHING, REQUEST, CHUNK, CHUNK_END };

struct sniffed {
    char name[NAME_ROOM];   /* in lower case; only letters, digits, and any of - _ . : [ ] */
    uint port;              /* behind the name; 0: none */
    const char *why;        /* when it is not to be let through */
    ulong whole;            /* HTTP: bytes from here on that belong to the same request, as far as is known by now */
    enum expects next;      /* and what follows them */
};

enum sniff { SNIFF_MORE, SNIFF_NAMED, SNIFF_REFUSED };
enum sniff sniff(const unsigned char *data, ulong size, struct sniffed *found);
/* The size of a chunk of a body, with the chunk, or the end of one. SNIFF_NAMED: it is as it should be. */
enum sniff sniff_chunk(const unsigned char *data, ulong size, struct sniffed *found);
enum sniff sniff_chunk_end(const unsigned char *data, ulong size, struct sniffed *found);
#endif
