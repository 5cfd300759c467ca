/* Any bytes as a part of an archive: nothing outside of it is read, nothing but records of what is in it written.
 *
 * Built as front.c is. The checksums of headers are made good first, or nothing would come through. */
#include "../../launcher/layers.c"

void *malloc(ulong size);
void free(void *memory);

static void demand(int holds) { if (!holds) __builtin_trap(); }

static void correct(byte *header) {
    ulong sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i];
    for (int i = 5; i >= 0; i--, sum >>= 3) header[148 + i] = (byte)('0' + (sum & 7));
    header[154] = 0, header[155] = ' ';
}

int LLVMFuzzerTestOneInput(const byte *data, ulong size);
int LLVMFuzzerTestOneInput(const byte *data, ulong size) {
    enum { ROOM = 1000 };
    byte *buffer = malloc(size + 1), *records = malloc(ROOM), *at = records;
    copy(buffer, data, size);
    for (u64 i = 0; i + BLOCK <= size; i += BLOCK) correct(buffer + i);
    struct plain p = {.buffer = buffer, .end = size, .records = records, .room = ROOM, .entries = 7, .bytes = 1 << 20,
                      .name_bytes = 99, .files = -1};
    kist_plain(&p);
    demand(p.used <= ROOM && p.entries <= 7 && p.bytes <= 1 << 20 && p.at <= size);
    for (u64 i = 0; i < p.entries; i++) {
        u64 name = get(at, 2), inode = get(at + 4, 4);
        demand(name && name < 100 && inode >= INODE && inode < INODE + 100);
        at += HEAD + name + inode;
    }
    demand(at == records + p.used);
    /* The same bytes as records, and the records that came of them. */
    enum { RUNS = 5 };
    const byte *from[] = {data, records};
    const u64 sizes[] = {size, p.used};
    for (int i = 0; i < 2; i++) {
        byte *exact = malloc(sizes[i] + 1), *names = malloc(sizes[i] + 1), *inodes = malloc(sizes[i] + 1);
        u64 runs[2 * RUNS], count = RUNS;
        copy(exact, from[i], sizes[i]);
        u64 end = kist_runs(exact, sizes[i], 3, i ? NONE : 7, names, inodes, runs, &count);
        demand(count <= RUNS && (end == NONE ? !i : end <= sizes[i]));
        for (u64 j = 0; j < count; j++) demand(runs[2 * j] + HEAD <= sizes[i] && (!j || runs[2 * j] > runs[2 * j - 2]));
        free(exact), free(names), free(inodes);
    }
    free(buffer);
    free(records);
    return 0;
}
