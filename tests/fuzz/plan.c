/* Any bytes as a plan: the launcher's decoder reads nothing outside of them, and what it accepts is what it says.
 *
 * Built with clang's libFuzzer it is a coverage-guided target (see the Makefile here). Built with REPLAY it reads plans
 * from stdin, each a u32 size and its bytes, and writes for each what decode_plan returned, as an i32: the tests' way
 * to ask the launcher's own decoder. Always built with sanitizers. No libc header: they clash with the launcher's. */
#include "../../launcher/launcher.h"

void *malloc(ulong size);
void free(void *memory);
ulong LLVMFuzzerMutate(unsigned char *data, ulong size, ulong room);

static void demand(int holds) { if (!holds) __builtin_trap(); }

static volatile char touched;

/* What take_step relies on. */
static void examine_argument(char kind, const struct argument *a) {
    if (kind == 'f') demand(a->n < SLOT_COUNT);
    if (kind == 's') demand(length(a->s) == a->n);
    if (kind == 'b') for (ulong i = 0; i <= a->n; i++) touched = a->s[i];
    const char *at = a->s;
    if (kind == 'l') for (ulong i = 0; i < a->n; i++) at += length(at) + 1; /* as list_strings and execve(2) walk it */
}

static long examine(const char *bytes, ulong size) {
    static struct plan plan;
    long r = decode_plan(&plan, bytes, size);
    demand(r == 0 || r == -EBADMSG || r == -EPROTO);
    for (uint i = 0; r == 0 && i < plan.steps; i++) {
        struct step step;
        decode_step(&plan, i, &step);
        demand(step.op < OP_COUNT && step.actor < ACTOR_COUNT);
        for (ulong k = 0; op_signature[step.op][k]; k++) examine_argument(op_signature[step.op][k], &step.arguments[k]);
    }
    return r;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, ulong size) {
    examine((const char *)data, size); /* a copy of exactly this size: a byte too far is seen */
    return 0;
}

#ifdef REPLAY
static int take(char *to, ulong size) { /* from stdin; 0 at its end */
    for (ulong n = 0; n < size;) {
        long r = sys(read, 0, to + n, size - n);
        if (r <= 0) return 0;
        n += (ulong)r;
    }
    return 1;
}

int main(void) {
    uint size;
    while (take((char *)&size, sizeof size)) {
        char *bytes = malloc(size);
        if (!take(bytes, size)) return 1;
        int verdict = (int)examine(bytes, size);
        free(bytes);
        if (sys(write, 1, &verdict, sizeof verdict) != sizeof verdict) return 1;
    }
    return 0;
}
#else
static uint word(const unsigned char *at) { uint n; memcpy(&n, at, 4); return n; }

/* Where step `index` begins, as far as the sizes in the steps before lead there. */
static ulong step_at(const unsigned char *data, ulong size, uint index) {
    ulong at = 24;
    while (index-- && at + 8 <= size && word(data + at + 4) >= 8 && at + word(data + at + 4) < size) at += word(data + at + 4);
    return at;
}

/* Mutate inside one step, and say its new size and the plan's: else nearly all ends at the first comparison. */
ulong LLVMFuzzerCustomMutator(unsigned char *data, ulong size, ulong room, uint seed) {
    static unsigned char rest[1 << 20];
    ulong at = size >= 32 ? step_at(data, size, seed >> 8 & 63) : 0;
    uint had = at + 8 <= size && at ? word(data + at + 4) : 0;
    if (seed % 8 == 0 || had < 8 || at + had > size || size - at - had > sizeof rest) return LLVMFuzzerMutate(data, size, room);
    ulong after = size - at - had;
    memcpy(rest, data + at + had, after);
    ulong has = LLVMFuzzerMutate(data + at + 8, had - 8, (room - at - 8 - after) & ~7UL);
    while (has % 8) data[at + 8 + has++] = 0;
    uint now = (uint)has + 8, total = (uint)(at + now + after), steps = word(data + 20);
    if (seed % 8 == 1) now = had; /* a step that disagrees with itself */
    memcpy(data + at + 4, &now, 4);
    memcpy(data + at + 8 + has, rest, after);
    if (seed % 8 == 2 && at + 8 + has + after + had <= room) { /* and once more */
        memcpy(data + at + 8 + has + after, data + at, now <= had ? now : had);
        total += now <= had ? now : had;
        steps++;
    }
    memcpy(data + 16, &total, 4);
    memcpy(data + 20, &steps, 4);
    return total;
}
#endif
