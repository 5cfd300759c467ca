/* kist's launcher: takes the steps of a plan. It decides nothing: see docs/explanation and src/kist/plan/steps.py.
 * Started with the control socket at fd 3 and the plan, a sealed memfd, at fd 4; the command's stdio at 0, 1, 2. */
#include "launcher.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)

void *memcpy(void *to, const void *from, ulong n) {
    char *t = to;
    const char *f = from;
    while (n--) *t++ = *f++;
    return to;
}
void *memset(void *to, int c, ulong n) {
    char *t = to;
    while (n--) *t++ = (char)c;
    return to;
}

static struct state state;

void say(struct state *s, const uint *words, uint count) {
    (void)s;
    sys(sendto, CONTROL_FD, words, count * 4, MSG_NOSIGNAL, 0, 0);
}

void say_failed(struct state *s, uint step, long error, uint argument) {
    uint words[] = {SAYS_FAILED, step, (uint)-error, argument};
    say(s, words, 4);
}

static long map_plan(struct plan *plan) {
    struct statx st;
    memset(&st, 0, sizeof st);
    long r = sys(statx, PLAN_FD, "", AT_EMPTY_PATH, STATX_SIZE, &st);
    if (r < 0) return r;
    r = sys(mmap, 0, st.stx_size, 1 /* PROT_READ */, 2 /* MAP_PRIVATE */, PLAN_FD, 0);
    if (r < 0 && r > -4096) return r;
    sys(close, PLAN_FD);
    return decode_plan(plan, (const char *)r, st.stx_size);
}

static int has_undo(uint op) { return op == OP_CGROUP_MAKE || op == OP_MKDIR; }

/* Take the steps of one actor. On failure s->step and s->argument say where. */
static long take_steps(struct state *s, enum actor actor, uint from) {
    struct step step;
    for (uint i = from; i < s->plan.steps; i++) {
        decode_step(&s->plan, i, &step);
        if (step.actor != actor) continue;
        s->step = i;
        s->argument = 0;
        long r = take_step(s, &step);
        if (r < 0) return r;
        if (has_undo(step.op) && r == 0) s->undo[s->undo_count++] = i;
        if (step.op == OP_CLONE && r == 1) return take_steps(s, ACTOR_INIT, i + 1); /* the child */
    }
    return 0;
}

__attribute__((noreturn)) void leave(int code) {
    for (;;) sys(exit_group, code);
}

__attribute__((noreturn, used)) void start(void) {
    struct state *s = &state;
    for (uint i = 0; i < SLOT_COUNT; i++) s->slots[i] = -1;
    s->slots[SLOT_STDIN] = 0;
    s->slots[SLOT_STDOUT] = 1;
    s->slots[SLOT_STDERR] = 2;
    s->peer = s->init_fd = -1;
    ulong all = ~0UL;
    sys(rt_sigprocmask, 0 /* SIG_BLOCK */, &all, 0, 8); /* what matters comes by signalfd or the control socket */
    sys(fcntl, CONTROL_FD, F_SETFD, FD_CLOEXEC);
    sys(close_range, PLAN_FD + 1, ~0U, 0);
    long r = map_plan(&s->plan);
    if (r < 0) {
        say_failed(s, ~0U, r, 0);
        leave(125);
    }
    r = take_steps(s, ACTOR_HOST, 0);
    if (s->init_pid == 1 && s->init_fd == -1) { /* the child: it comes back only when a step failed */
        uint words[] = {SAYS_FAILED, s->step, (uint)-r, s->argument};
        sys(sendto, s->peer, words, sizeof words, MSG_NOSIGNAL, 0, 0);
        leave(125);
    }
    if (r < 0) {
        kill_init(s);
        say_failed(s, s->step, r, s->argument);
    }
    undo_all(s);
    uint done = SAYS_DONE;
    say(s, &done, 1);
    leave(r < 0 ? 125 : 0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n and $-16,%rsp\n call start\n");
#else
__asm__(".globl _start\n_start:\n mov x29,#0\n mov x30,#0\n bl start\n");
#endif
