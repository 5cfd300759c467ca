/* DNS messages: what is asked, and answers of our own. Pure but for reading the files of names. Source: RFC 1035, 6891. */
#ifndef KIST_NAMES_H
#define KIST_NAMES_H
#include "sys.h"

#define DNS_MOST 4096 /* bytes of a UDP message that we take or give */
enum { TYPE_A = 1, TYPE_PTR = 12, TYPE_AAAA = 28, TYPE_OPT = 41, TYPE_ANY = 255 };
enum { ANSWERED = 0, SERVER_FAILED = 2, NO_SUCH_NAME = 3, NOT_IMPLEMENTED = 4, REFUSED = 5, FORMAT_WRONG = 1 };

struct question {
    char name[256];  /* in lower case, labels with dots between; "" when a label has a byte that no name of ours has */
    uint type;
    uint end;        /* where the question ends in the message */
    uint room;       /* bytes of a UDP answer that the client takes */
    uint edns;       /* it sent an OPT record, and gets one */
};

/* Where names are: a directory for each network, whose files are written by src/kist/network/names.py. */
struct names { const char *directory, *networks, *run; };

/* 0, or the response code of what is no question that we take. */
int read_question(const unsigned char *message, ulong size, struct question *q);

/* A whole answer without records, in place of the question. Returns its size. */
uint answer_empty(unsigned char *message, const struct question *q, int code);

/* Addresses of a type that an answer has behind its question, which ends at `at`: 16 bytes each, IPv4 as ::ffff:1.2.3.4.
 * Returns for how many seconds they hold. */
ulong read_addresses(const unsigned char *message, uint size, uint at, uint type, unsigned char *to, uint room, uint *count);

/* An answer that is one address, of which the client keeps no memory for long. */
uint answer_address(unsigned char *message, const struct question *q, const unsigned char address[4]);

/* The answer from the files of names: its size, or 0 when the name is not ours. `limit`: bytes that fit. */
uint answer_own(unsigned char *message, const struct question *q, const struct names *names, uint limit, uint turn);
#endif
