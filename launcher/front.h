/* kist-oci's front: what it reads. See front.c. */
#ifndef KIST_FRONT_H
#define KIST_FRONT_H
#include "sys.h"

#define MAX_CGROUPS 32

enum verb { OTHER_VERB, START, STATE, KILL, DELETE };

/* A command line, as far as it is an ordinary one. */
struct call { enum verb verb; const char *root, *id; int signal, force; };

/* ROOT/ID/ordinary: see src/kist/engine/runtime/ordinary.py, which writes it. Strings lie in its text. */
struct ordinary {
    const char *verbs, *freezer, *state[3], *cgroups[MAX_CGROUPS];
    uint cgroup_count;
};

/* Each returns 0, or an empty value, for what is not as expected: that is Python's to judge. */
int read_call(struct call *call, char **words);
int read_ordinary(struct ordinary *found, const char *text, ulong size);
int takes(const struct ordinary *found, enum verb verb);
int read_pid(const char *text, ulong size);                    /* of state.json */
int read_start(const char *text, ulong size, ulong *ticks);    /* of /proc/PID/stat; 0 for a zombie, too */
int read_heeds(const char *text, int signal);                  /* of /proc/PID/status, ended by a 0; see await_heed */
int read_signal(const char *word);                             /* -1: none */
int read_interpreter(char *text, ulong size, char **path);     /* of a script; cuts the text after it */
/* The next of PATH's directories and /NAME, at `to`; *path moves on, and is 0 at the end. Returns 0 when there is none. */
int read_place(const char **path, const char *name, char *to, ulong room);

__attribute__((noreturn)) void hand_over(const char *name, ulong argc, char **argv, char **environment);
#endif
