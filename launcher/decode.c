/* The plan, checked as a whole before step 0. The layout is in src/kist/plan/encode.py. */
#include "launcher.h"

const char *const op_signature[OP_COUNT] = {OP_SIGNATURES};

static ulong number(const char *p) { ulong n; memcpy(&n, p, 8); return n; }
static ulong padded(ulong n) { return (n + 7) & ~7UL; }

/* One argument at `at` of `left` bytes: its size, or -EBADMSG. */
static long decode_argument(char kind, const char *at, ulong left, struct argument *out) {
    if (left < 8) return -EBADMSG;
    ulong n = number(at);
    out->n = n;
    out->s = 0;
    if (kind == 'n') return 8;
    if (kind == 'f') return n < SLOT_COUNT ? 8 : -EBADMSG;
    if (kind == 'l') {
        if (left < 16) return -EBADMSG;
        ulong size = number(at + 8), zeros = 0;
        if (size > left - 16 || padded(size) > left - 16) return -EBADMSG;
        for (ulong i = 0; i < size; i++) zeros += !at[16 + i];
        if (zeros != n || (size && at[16 + size - 1])) return -EBADMSG;
        out->s = at + 16;
        return 16 + (long)padded(size);
    }
    if (n >= left - 8 || padded(n + 1) > left - 8 || at[8 + n]) return -EBADMSG;
    if (kind == 's')
        for (ulong i = 0; i < n; i++) if (!at[8 + i]) return -EBADMSG;
    out->s = at + 8;
    return 8 + (long)padded(n + 1);
}

static long walk(const char *at, ulong left, struct step *step) {
    unsigned short op;
    uint size;
    if (left < 8) return -EBADMSG;
    memcpy(&op, at, 2);
    memcpy(&size, at + 4, 4);
    if (size < 8 || size > left || size % 8 || op >= OP_COUNT || !op_signature[op]) return -EBADMSG;
    if ((unsigned char)at[2] >= ACTOR_COUNT || (unsigned char)at[3] != length(op_signature[op])) return -EBADMSG;
    step->op = op;
    step->actor = (unsigned char)at[2];
    ulong done = 8, i = 0;
    for (const char *kind = op_signature[op]; *kind; kind++, i++) {
        long used = decode_argument(*kind, at + done, size - done, &step->arguments[i]);
        if (used < 0) return used;
        done += (ulong)used;
    }
    struct argument why;
    long used = decode_argument('s', at + done, size - done, &why); /* for people: why, and the chapter */
    return used >= 0 && done + (ulong)used + 8 == size ? (long)size : -EBADMSG;
}

long decode_plan(struct plan *plan, const char *bytes, ulong size) {
    uint total, steps;
    if (size < 24 || number(bytes) != 0x4e414c505453494bUL) return -EBADMSG; /* "KISTPLAN" */
    if (number(bytes + 8) != PLAN_TABLE) return -EPROTO;
    memcpy(&total, bytes + 16, 4);
    memcpy(&steps, bytes + 20, 4);
    if (total != size || !steps || steps > MAX_STEPS) return -EBADMSG;
    struct step step;
    ulong at = 24;
    for (uint i = 0; i < steps; i++) {
        long used = walk(bytes + at, size - at, &step);
        if (used < 0) return used;
        plan->offset[i] = (uint)at;
        at += (ulong)used;
    }
    plan->bytes = bytes;
    plan->size = size;
    plan->steps = steps;
    return at == size ? 0 : -EBADMSG;
}

void decode_step(const struct plan *plan, uint index, struct step *step) {
    const char *at = plan->bytes + plan->offset[index];
    uint size;
    memcpy(&size, at + 4, 4);
    walk(at, size, step);
}
