/* What the rooms of the launcher share. Functions return 0 or more, or -errno. */
#ifndef KIST_LAUNCHER_H
#define KIST_LAUNCHER_H
#include "steps.h"
#include "sys.h"

#define CONTROL_FD 3 /* SOCK_SEQPACKET to the caller; a plan is read from fd 4 */
#define PLAN_FD 4
#define MAX_STEPS 4096

/* Messages on the control socket: a u32 kind, then u32 values or bytes. The Python side: kernel/launcher.py. */
enum message { SAYS_STARTED = 1, SAYS_FAILED, SAYS_EXITED, SAYS_REPORT, SAYS_DONE };
enum order { ORDER_SIGNAL = 1, ORDER_KILL, ORDER_FREEZE, ORDER_THAW };

struct step { uint op, actor; struct argument arguments[MAX_ARGUMENTS]; };

struct plan { const char *bytes; uint steps; uint offset[MAX_STEPS]; };

struct state {
    struct plan plan;
    int slots[SLOT_COUNT];
    int peer;          /* host <-> init, SOCK_SEQPACKET */
    int init_pid, init_fd;
    uint step;         /* the one under way */
    uint argument;     /* which of its arguments is to blame */
    uint started;      /* init has become the command */
    struct { int from, to; } relays[4];
    uint relay_count;
    uint undo_count;
    uint undo[MAX_STEPS];
};

long decode_plan(struct plan *plan, const char *bytes, ulong size);
void decode_step(const struct plan *plan, uint index, struct step *step);

long take_step(struct state *s, const struct step *step);
long take_root_step(struct state *s, const struct step *step); /* ENOSYS for other steps */
long supervise(struct state *s, const struct step *step);
long become_command(struct state *s, const struct step *step);
void undo_all(struct state *s);
void kill_init(struct state *s);

long send_fd(int socket, int fd);
long receive_fd(int socket);
void say(struct state *s, const uint *words, uint count);
void say_failed(struct state *s, uint step, long error, uint argument);
#endif
