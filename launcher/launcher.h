/* What the rooms of the launcher share. Functions return 0 or more, or -errno. */
#ifndef KIST_LAUNCHER_H
#define KIST_LAUNCHER_H
#include "steps.h"
#include "sys.h"

#define MAX_STEPS 8192
#define MAX_RELAYS 4
#define RELAY_ROOM 65536
#define RESOLVER_FDS 80
#define MAX_STRINGS 16384
#define ARGUMENTS(kind) const struct kind *a = (const struct kind *)step->arguments

/* Messages to the caller, and between our processes: a u32 kind, then u32 values or bytes. See kernel/launcher.py. */
enum message { SAYS_STARTED = 1, SAYS_FAILED, SAYS_EXITED, SAYS_REPORT, SAYS_DONE, SAYS_READY, SAYS_GO };
enum order { ORDER_SIGNAL = 1, ORDER_KILL, ORDER_FREEZE, ORDER_THAW };

struct step { uint op, actor; struct argument arguments[MAX_ARGUMENTS]; };

struct plan { const char *bytes; ulong size; uint steps; uint offset[MAX_STEPS]; };

/* What a process of ours says before it ends, with the kernel's own words where it gave some. */
struct failure { uint kind, step, error, argument; char words[112]; };

enum { MAX_GIVEN = 1024, GIVEN_US = 1, GIVEN_THE_COMMAND = 2 };

struct state {
    struct plan plan;
    int slots[SLOT_COUNT];
    unsigned char given[MAX_GIVEN]; /* by fd: whether the caller gave it to us, and for whom */
    uint actor;
    int orders, reports;    /* packet pipes with the caller; -1 when we took the caller's place */
    int plan_fd;
    char **on_failure;      /* then: the program that explains a failure, 0-terminated */
    char **environment;
    int peer;               /* between the supervisor and the first process, SOCK_SEQPACKET */
    int init_pid, init_fd;  /* in the supervisor; in the first process, init_pid is its number as seen from there */
    int stage_pid;
    uint step, argument;    /* the step under way, and which of its arguments is to blame */
    char words[112];
    uint detached;          /* the caller is let go of: its end is not ours */
    uint ready, started;    /* what the first process has said: all but the last step done; about to become the command */
    uint exit_code;
    char home[4096];        /* "HOME=...", for the command; "" when it is not ours to say */
    struct channel {        /* to -1: nowhere; log: which stream of the log it is, 0 none; slow: writing to it may block */
        int from, to;
        uint log, slow, start, end;
        char *data;
    } relays[MAX_RELAYS];
    uint relay_count;
    uint undo_count;
    uint undo[MAX_STEPS];
};

struct entry { ulong inode, offset; unsigned short size; unsigned char type; char name[]; }; /* of getdents64(2) */

long decode_plan(struct plan *plan, const char *bytes, ulong size);
void decode_step(const struct plan *plan, uint index, struct step *step);

long take_step(struct state *s, const struct step *step);
long take_root_step(struct state *s, const struct step *step);    /* ENOSYS for other steps */
long take_process_step(struct state *s, const struct step *step); /* the same */
long take_network_step(struct state *s, const struct step *step); /* the same */

long name_server(struct state *s, const struct step *step);
uint resolver_fds(struct pollfd *fds, ulong *deadline); /* at most RESOLVER_FDS; `deadline` becomes an earlier one, 0: none */
void run_resolver(const struct pollfd *fds, uint count);

/* The way out of a container that has no other: relay.c. */
long relay_listen(struct state *s, const struct step *step);
long relay_start(struct state *s, const struct step *step);
long proxy(const struct step *step);
int proxy_waits(void); /* an fd, when somebody comes; -1: for nobody, or not any more */
void proxy_start(void);

/* A program that is: beside.c. */
long send_namespaces(struct state *s);
long beside(struct state *s, const struct step *step);

extern struct helper { int pid, pidfd, control; } helper; /* whichever it has; it ends when `control` does */
void helper_end(void);

long supervise(struct state *s, const struct step *step);
long await_ready(struct state *s, uint running);
void kill_children(struct state *s);
void undo_all(struct state *s);
void undo_network(struct state *s, const struct step *step);
void network_undone(void);
void freeze(const char *file, int on);

/* A container that is kept: attend.c, log.c, ended.c. All do nothing where the plan has no Attend. */
struct end { uint code, signaled, timed_out, max_rss_kib; ulong wall_ns, user_us, system_us; };
long attend(struct state *s, const struct step *step);
void attend_start(struct state *s);
uint attend_poll(const struct state *s, struct pollfd *fds); /* how many it has filled; up to ATTEND_FDS */
void attend_serve(struct state *s, const struct pollfd *fds);
void attend_end(void);
void become_after(const struct state *s);
#define ATTEND_FDS 19
long log_begin(const char *prefix, ulong limit, ulong keep);
void log_take(uint stream, const char *data, ulong size);
void log_end(void);
#define LOG_HEAD 40                           /* what is in front of a record's text: see log.c */
#define LOG_ROOM (RELAY_ROOM + LOG_HEAD + 1) /* of the longest record */
struct lock { short type, whence; long start, size; int pid; }; /* of fcntl(2); size 0: all behind `start` */
long log_open(const char *prefix, ulong number, int flags);
void log_numbers(const char *prefix, ulong above, ulong *first, ulong *last); /* of its files that are there; 0: none */
long show_log(struct state *s, const struct step *step);
const char *log_stamp(void); /* 30 characters: this moment, 2026-11-26T11:37:29.123456789Z */
long ended_begin(const char *path);
void ended_know(const struct end *end);
void ended_report(const char *label, const char *text, ulong n);
long ended_write(void);
void ended_forget(void);
int ended_known(void);

long prepare_exec(struct state *s, const struct step *step);
long become_command(struct state *s, const struct step *step);
long list_strings(const struct argument *list, char **out, ulong room);
long expand(const struct state *s, const char *text, char *to, ulong room);
long write_path(const char *path, const char *data, ulong size);
const char *split_path(const char *path, char directory[4096]); /* returns the name in it */
int path_in(char *to, const char *directory, const char *name); /* 0 when longer than 4096 bytes */

long bound_socket(const char *directory, const char *name, int kind, int mode);
void exec_clean(char **argv, char **envp);
long null_stdio(void);
long end_with(int maker);
void keep_only(int *fds, uint count);
void say_started(struct state *s);
long send_fd(int socket, int fd);
long receive_fd(struct state *s);
long take_fd(int socket); /* the same from any socket */
long hear(struct state *s, uint *words, uint count); /* from peer; a failure told is returned as ours */
void tell(struct state *s, const uint *words, uint count);
__attribute__((noreturn)) void fail(struct state *s, long error);
__attribute__((noreturn)) void leave(int code);
#endif
