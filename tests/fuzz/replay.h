/* What the targets have in common; include it after `examine`. With REPLAY it makes inputs itself, by changing good ones, so
 * that the tests need only gcc; else it is libFuzzer's entry. */
#ifdef REPLAY
#define GOOD(text) {text, sizeof text - 1}
struct seed { const char *text; ulong size; };

static ulong number(const char *text) {
    ulong n = 0;
    for (; *text; text++) n = n * 10 + (ulong)(*text - '0');
    return n;
}

/* Prints how many inputs were accepted, of the number given. The first of all are the seeds as they are. */
static int replay(const struct seed *seeds, ulong count, ulong rounds) {
    static unsigned char input[1 << 10];
    char line[64];
    ulong random = 88172645463325252UL, accepted = 0;
    for (ulong round = 0; round < rounds; round++) {
        const struct seed *seed = seeds + round % count;
        ulong size = seed->size;
        memcpy(input, seed->text, size);
        for (ulong change = round / count % 4; change; change--) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            ulong at = 1 + (random >> 8) % (size - 1), to = 1 + (random >> 20) % (size - 1);
            switch (random % 5) {
            case 0: input[at] ^= (unsigned char)(1 << (random >> 40) % 8); break;
            case 1: input[at] = (unsigned char)(random >> 40); break;
            case 2: if (size > 4) size = at + 1; break;
            case 3: input[at] = input[to]; break;
            case 4:
                if (size > sizeof input - 64) break;
                for (ulong from = to; from < to + 64 && from < seed->size && from < size; from++) input[size++] = input[from];
            }
            if (size < 2) size = 2;
        }
        accepted += examine(input, size) != 0;
    }
    ulong n = decimal(line, accepted);
    line[n++] = '\n';
    return sys(write, 1, line, n) != (long)n;
}
#else
int LLVMFuzzerTestOneInput(const unsigned char *data, ulong size) {
    examine(data, size);
    return 0;
}
#endif
