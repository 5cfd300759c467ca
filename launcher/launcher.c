/* kist's launcher: takes the steps of a plan. It decides nothing: see docs/explanation and src/kist/plan/steps.py.
 *
 *     kist-launcher PLAN ORDERS REPORTS [FD...]        fds: a sealed memfd, two packet pipes, locks to hold
 *     kist-launcher PLAN - - [FD...] -- PROGRAM ...    in the caller's place; PROGRAM explains a failure:
 *                                                      given PLAN, step, errno and argument in numbers, and the kernel's words
 * The command's stdio is 0, 1, 2. */
#include "launcher.h"

static struct state state;

void tell(struct state *s, const uint *words, uint count) {
    if (s->actor != ACTOR_HOST) sys(sendto, s->peer, words, count * 4, MSG_NOSIGNAL, 0, 0);
    else if (s->reports >= 0) sys(write, s->reports, words, count * 4);
}

static long map_plan(struct plan *plan, int fd) {
    struct statx st;
    memset(&st, 0, sizeof st);
    long r = sys(statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &st);
    if (r < 0) return r;
    r = sys(mmap, 0, st.stx_size, 1 /* PROT_READ */, 2 /* MAP_PRIVATE */, fd, 0);
    if (r < 0 && r > -4096) return r;
    return decode_plan(plan, (const char *)r, st.stx_size);
}

static int has_undo(uint op) {
    return op == OP_CGROUP_MAKE || op == OP_MKDIR || op == OP_REMOVE || op == OP_CREATE_FILE || op == OP_NETLINK;
}

/* Take the steps of one actor. On failure s->step and s->argument say where. A child returns from here only to fail. */
static long take_steps(struct state *s, uint from) {
    struct step step;
    uint actor = s->actor;
    for (uint i = from; i < s->plan.steps; i++) {
        decode_step(&s->plan, i, &step);
        if (step.actor != actor) continue;
        s->step = i;
        s->argument = 0;
        long r = take_step(s, &step);
        if (r < 0) return r;
        if (has_undo(step.op) && r == 0) s->undo[s->undo_count++] = i;
        if (s->actor != actor) return take_steps(s, i + 1); /* Clone: this is the child now */
    }
    return 0;
}

__attribute__((noreturn)) void leave(int code) {
    for (;;) sys(exit_group, code);
}

static char *digits(ulong n, char room[24]) {
    char *at = room + 23;
    *at = 0;
    do *--at = (char)('0' + n % 10); while (n /= 10);
    return at;
}

/* In the caller's place: become the program that explains what failed, with numbers added to its arguments. */
static void explain(struct state *s, long error) {
    static char *argv[65], rooms[4][24];
    ulong n = 0, numbers[] = {(ulong)s->plan_fd, s->step, (ulong)-error, s->argument};
    while (s->on_failure[n] && n < 59) argv[n] = s->on_failure[n], n++;
    for (int i = 0; i < 4; i++) argv[n++] = digits(numbers[i], rooms[i]);
    argv[n++] = s->words;
    argv[n] = 0;
    ulong none = 0;
    sys(rt_sigprocmask, 2, &none, 0, 8);
    sys(fcntl, s->plan_fd, F_SETFD, 0);
    sys(execve, argv[0], argv, s->environment);
    static const char text[] = "kist: a step failed, and what would explain it cannot be started\n";
    sys(write, 2, text, sizeof text - 1);
}

__attribute__((noreturn)) void fail(struct state *s, long error) {
    struct failure failure = {SAYS_FAILED, s->step, (uint)-error, s->argument, {0}};
    memcpy(failure.words, s->words, sizeof s->words);
    if (s->actor != ACTOR_HOST) {
        tell(s, &failure.kind, sizeof failure / 4);
        leave(125);
    }
    kill_children(s);
    helper_end();
    attend_end();
    ended_write();
    ended_forget();
    undo_all(s);
    become_after(s);
    if (s->on_failure) explain(s, error);
    tell(s, &failure.kind, sizeof failure / 4);
    leave(125);
}

static int number_of(const char *text) {
    int n = 0;
    if (!*text) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || n > 1 << 20) return -1;
        n = n * 10 + *text - '0';
    }
    return n;
}

/* The fds that we were given by number stay, all others were leaked to us. After the first three, which are our own,
 * those below `inherited` are the command's, too. */
static void own_fds(struct state *s, char **numbers, uint inherited) {
    for (uint i = 0; numbers[i] && !same(numbers[i], "--"); i++) {
        int fd = number_of(numbers[i]);
        if (fd < 0) continue;
        sys(fcntl, fd, F_SETFD, FD_CLOEXEC);
        if (fd < MAX_GIVEN) s->given[fd] = i < 3 || (uint)fd >= inherited ? GIVEN_US : GIVEN_THE_COMMAND;
    }
    sys(close_range, MAX_GIVEN, ~0U, 0);
    for (uint fd = 3; fd < MAX_GIVEN; fd++)
        if (!s->given[fd]) {
            uint last = fd;
            while (last + 1 < MAX_GIVEN && !s->given[last + 1]) last++;
            sys(close_range, fd, last, 0);
            fd = last;
        }
}

/* Where the fds end that the command inherits. */
static uint inherited_fds(const struct plan *plan) {
    struct step step;
    for (uint i = plan->steps; i--;) {
        decode_step(plan, i, &step);
        if (step.op == OP_PREPARE_EXEC) return (uint)((struct prepare_exec *)step.arguments)->close_from.n;
    }
    return 3;
}

__attribute__((noreturn, used)) void start(ulong *stack) {
    struct state *s = &state;
    char **argv = (char **)(stack + 1);
    ulong argc = *stack, all = ~0UL;
    for (uint i = 0; i < SLOT_COUNT; i++) s->slots[i] = -1;
    for (int fd = 0; fd < 3; fd++) s->slots[SLOT_STDIN + fd] = fd;
    s->peer = s->init_fd = -1;
    s->environment = argv + argc + 1;
    sys(prctl, PR_SET_NAME, "kist", 0, 0, 0);
    sys(rt_sigprocmask, 0 /* SIG_BLOCK */, &all, 0, 8); /* what matters comes by signalfd or the orders' pipe */
    if (argc < 4) leave(125);
    s->plan_fd = number_of(argv[1]);
    s->orders = number_of(argv[2]);
    s->reports = number_of(argv[3]);
    for (char **word = argv + 4; *word; word++)
        if (same(*word, "--")) s->on_failure = word + 1;
    s->step = ~0U;
    long r = map_plan(&s->plan, s->plan_fd);
    if (r < 0) fail(s, r);
    own_fds(s, argv + 1, inherited_fds(&s->plan));
    r = take_steps(s, 0);
    if (r < 0 || s->actor != ACTOR_HOST) fail(s, r);
    undo_all(s);
    uint done = SAYS_DONE;
    tell(s, &done, 1);
    become_after(s);
    leave(s->on_failure ? (int)s->exit_code : 0);
}
