/* What the parts of the relay share. It is a process of its own beside the supervisor: see relay.c. */
#ifndef KIST_RELAY_H
#define KIST_RELAY_H
#include "launcher.h"
#include "names.h"
#include "policy.h"
#include "sniff.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_FLAGS (02000000 | 04000) /* CLOEXEC, NONBLOCK */
#define MOST_ADDRESSES 8
#define MOST_NAMES 1024

/* A name that the container asked for: it knows it by an address that means nothing elsewhere, the relay by those
 * that it has found itself. */
struct name {
    char text[NAME_ROOM];
    unsigned char known_as[4];
    struct address addresses[MOST_ADDRESSES];
    uint count, code;       /* code: what the client hears when there is none */
    uint wild;              /* a rule with `*` lets it be asked for */
    uint users;             /* connections that still need it */
    ulong fresh_until, used;
    int fd;                 /* -1, or a question under way: */
    unsigned short id;
    uint type, server;
    ulong deadline;
};

struct endpoint { unsigned short family, port; unsigned char bytes[24]; }; /* sockaddr_in, sockaddr_in6 */

/* A socket inside of the container's network namespace, connected to `to`; datagrams come from `from`. */
struct wish { uint datagrams, size; struct endpoint from, to; };

static inline unsigned short swapped(uint n) { return (unsigned short)((n & 255) << 8 | (n >> 8 & 255)); }

enum watched { CONTROL, LISTENER, PORT, QUESTIONS, DROPPED, LOOKUP, CLIENT, SERVER, DATAGRAMS, FLOW_INSIDE, FLOW_OUTSIDE };

extern struct policy policy;
extern ulong now;           /* of this round */
extern const struct address own_address; /* the container's */
long watch(int fd, enum watched what, uint index, uint events);

/* denied.c */
long denials_open(const char *path, ulong most); /* its fd; of more bytes, the newest are kept */
void denials_to(int fd);
void take_dropped(int from); /* packets, in nfnetlink_log's words */
void denied(const char *protocol, const struct address *to, uint port, const char *name, const char *why, const char *more);

ulong endpoint_of(struct endpoint *e, const struct address *a, uint port); /* its size */
void read_endpoint(const struct endpoint *e, struct address *a, uint *port);
long open_inside(const struct wish *wish);
void resolved(struct name *name); /* what waits for its addresses may go on */

/* lookup.c: the name server inside, and questions to the servers outside. */
long lookups_begin(int questions, char **servers, long count);
void take_questions(void);
void take_reply(uint index);
void lookups_tick(ulong *deadline);
struct name *known_as(const struct address *address);
int look_up(struct name *name); /* 1: its addresses, or its code, are there; 0: not yet */

/* datagrams.c: UDP, where no policy is, and to published ports. */
long datagrams_begin(int fd);
int publish_datagrams(int fd);
void take_datagrams(int listener, uint target);
void move_datagrams(uint index, int outwards);
void datagrams_tick(ulong *deadline);
#endif
