/* What Python is too slow for when a layer is unpacked, done without its lock: entries of an archive that are as most
 * are, their files, and putting those where they belong. A library, loaded by store/library.py; it keeps no state.
 *
 * It takes what store/tar.py would take, and the same of it, but stops before all that is seldom: tar.py has the word on
 * what is a good archive. Sources: POSIX.1-2017 pax(1), "ustar Interchange Format"; tar(5). */
#include "sys.h"

typedef unsigned char byte;
typedef __u64 u64;

#define EXPORTED __attribute__((visibility("default")))
enum { BLOCK = 512, NAME = 100, HEAD = 8, INODE = 40, DIRENT = 12, LEAF = 255 };
#define NONE (~(u64)0)

/* As in store/library.py. `in` and `out` are from the caller's view. */
struct plain {
    const byte *buffer;      /* in: a part of the archive */
    u64 at, end;             /* in: where in it the next header begins, and its end; out: after the last header taken */
    u64 base;                /* in: where in the archive it begins */
    byte *records;           /* out: as in store/changes.py */
    u64 room, used;          /* in: of that; out */
    u64 entries, bytes;      /* in: how many there may be, and how many bytes of files; out: how many were taken */
    u64 name_bytes;          /* in: the longest name */
    u64 number, layer;       /* in: of the next entry, and what inodes say */
    u64 stored;              /* out: bytes of content of the last one */
    u64 *runs, runs_used;    /* out: files that were put into one directory there: the first one's number, how many */
    u64 first, count;        /* in and out: of those, the ones that came last */
    int files;               /* in: the directory for contents, or -1: they stay in the archive */
    __u32 mask;              /* in: what a new file there keeps of its mode */
    __u32 chown, uid, gid;   /* in: whether owners are set, but for these, whom it belongs to anyway */
    __u32 head_size;         /* in and out: of the name of the directory that the last ones are of */
    byte head[NAME];
};

struct entry { u64 mode, uid, gid, size, seconds; ulong name, link; byte kind; };

static ulong text(const byte *field) { ulong n = 0; while (n < NAME && field[n]) n++; return n; }

/* Digits between spaces, then nothing but spaces and NULs. */
static int octal(const byte *field, int size, u64 *value) {
    int i = 0, first;
    u64 found = 0;
    while (i < size && field[i] == ' ') i++;
    for (first = i; i < size && field[i] >= '0' && field[i] <= '7'; i++) found = found << 3 | (u64)(field[i] - '0');
    if (i == first) return 0;
    for (; i < size; i++) if (field[i] && field[i] != ' ') return 0;
    *value = found;
    return 1;
}

/* ".wh." anywhere: it may be a whiteout. */
static int hides(const byte *name, ulong size) {
    for (ulong i = 0; i + 4 <= size; i++)
        if (name[i] == '.' && name[i + 1] == 'w' && name[i + 2] == 'h' && name[i + 3] == '.') return 1;
    return 0;
}

static int usual(const byte *header, struct entry *e) {
    __u32 sum = 8 * ' ';
    u64 expected;
    for (int i = 0; i < BLOCK; i++) sum += header[i];
    for (int i = 148; i < 156; i++) sum -= header[i];
    if (!octal(header + 148, 8, &expected) || sum != expected || header[345]) return 0; /* 345: prefix */
    e->kind = header[156];
    e->name = text(header), e->link = text(header + 157);
    if (!e->name || hides(header, e->name)) return 0;
    if (e->kind == '2' ? !e->link : (e->kind != '0' && e->kind != '5') || e->link) return 0;
    if (!octal(header + 100, 8, &e->mode) || e->mode > 07777) return 0;
    if (!octal(header + 108, 8, &e->uid) || !octal(header + 116, 8, &e->gid)) return 0;
    if (!octal(header + 124, 12, &e->size) || !octal(header + 136, 12, &e->seconds)) return 0;
    if (e->kind != '0') e->size = 0;
    return 1;
}

static byte *put(byte *to, u64 value, int size) { /* little endian */
    for (; size--; value >>= 8) *to++ = (byte)value;
    return to;
}
static u64 get(const byte *from, int size) {
    u64 value = 0;
    while (size--) value = value << 8 | from[size];
    return value;
}
static byte *copy(byte *to, const byte *from, ulong size) { while (size--) *to++ = *from++; return to; }
static int equal(const byte *one, const byte *other, ulong size) {
    while (size && *one == *other) one++, other++, size--;
    return !size;
}

static int fill(int fd, const struct plain *p, const struct entry *e, const byte *content) {
    struct __kernel_timespec times[2] = {{(long)e->seconds, 0}, {(long)e->seconds, 0}};
    for (u64 done = 0; done < e->size;) {
        long n = sys(write, fd, content + done, e->size - done);
        if (n <= 0) return 0;
        done += (u64)n;
    }
    if (p->chown && (e->uid != p->uid || e->gid != p->gid) && sys(fchown, fd, e->uid, e->gid)) return 0;
    if (e->mode & ~(u64)p->mask && sys(fchmod, fd, e->mode)) return 0;
    return !sys(utimensat, fd, 0, times, 0);
}

/* Its content and metadata; nothing is left of what fails. Files that stand beside each other in the archive, in one
 * directory, do so here as well, in one that has the first one's number. */
static int file(struct plain *p, const struct entry *e, const byte *header, u64 number) {
    char name[NAME + 32] = "r";
    ulong head = e->name;
    while (head && header[head - 1] != '/') head--;
    const byte *leaf = header + head;
    ulong size = e->name - head;
    if (!size || (*leaf == '.' && (size == 1 || (size == 2 && leaf[1] == '.')))) return 0;
    int first = !p->count || p->first + p->count != number || head != p->head_size || !equal(header, p->head, head);
    ulong at = 1 + decimal(name + 1, first ? number : p->first);
    if (first && sys(mkdirat, p->files, name, 0700)) return 0;
    name[at] = '/';
    copy((byte *)name + at + 1, leaf, size);
    int mode = e->mode & ~(u64)p->mask ? 0600 : (int)e->mode;
    int fd = (int)open_at(p->files, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
    int good = fd >= 0 && fill(fd, p, e, header + BLOCK);
    if (fd >= 0) shut(fd);
    if (fd >= 0 && !good) sys(unlinkat, p->files, name, 0);
    if (!good && first) name[at] = 0, sys(unlinkat, p->files, name, AT_REMOVEDIR);
    if (!good) return 0;
    if (first) p->first = number, p->count = 0, p->head_size = (__u32)head, copy(p->head, header, head);
    p->count++;
    if (first || !p->runs_used) p->runs_used++, p->runs[2 * p->runs_used - 2] = p->first;
    p->runs[2 * p->runs_used - 1] = p->count;
    return 1;
}

static void record(struct plain *p, const struct entry *e, const byte *header, u64 place) {
    byte *to = p->records + p->used;
    u64 type = e->kind == '0' ? S_IFREG : e->kind == '5' ? S_IFDIR : S_IFLNK;
    to = put(put(put(to, e->name, 2), 0, 2), INODE + e->link, 4);
    to = copy(to, header, e->name);
    to = put(put(put(put(put(to, type | e->mode, 2), p->layer, 2), e->uid, 4), e->gid, 4), 0, 4);
    to = put(put(put(to, e->seconds, 8), e->size, 8), place, 8);
    p->used = (u64)(copy(to, header + 157, e->link) - p->records);
}

/* Takes entries as long as they are as most are. */
EXPORTED void kist_plain(struct plain *p) {
    u64 entries = 0, bytes = 0, next = p->at;
    struct entry e;
    p->used = p->runs_used = 0;
    for (; next <= p->end && p->end - next >= BLOCK && entries < p->entries; entries++) {
        const byte *header = p->buffer + next;
        u64 begin = next + BLOCK;
        if (!usual(header, &e) || e.name > p->name_bytes || e.link > p->name_bytes) break;
        if (e.size > p->bytes - bytes || p->room - p->used < HEAD + INODE + e.name + e.link) break;
        u64 whole = (e.size + BLOCK - 1) / BLOCK * BLOCK, place = 0;
        if (e.kind == '0') {
            place = p->files < 0 ? p->base + begin : p->number + entries;
            if (p->files >= 0 && (whole > p->end - begin || !file(p, &e, header, place))) break;
        }
        record(p, &e, header, place);
        bytes += e.size;
        p->at = begin, p->stored = e.size;
        next = begin + whole;
    }
    p->entries = entries, p->bytes = bytes;
}

/* Takes apart records, as they are in the file of changes.py, as far as they are whole. Files without attributes that
 * stand beside each other in one directory are a run: their names below it, with a NUL after each, go to `names`, their
 * inodes to `inodes`, told that they came with `layer`, and what their place is, from `number` on, unless that is NONE. All
 * else stands alone. `runs`: where each begins, how many are in it, 0 for one alone; `count`: of runs, in: that may be.
 * Returns where the next record begins; NONE when one is none. */
EXPORTED u64 kist_runs(const byte *records, u64 size, u64 layer, u64 number, byte *names, byte *inodes, u64 *runs,
                       u64 *count) {
    u64 at = 0, room = *count, head = 0, last = 0; /* of the run: how long its directory's name is, a record with it */
    *count = 0;
    for (u64 i = number; size - at >= HEAD; i++) {
        const byte *name = records + at + HEAD;
        u64 name_size = get(records + at, 2), link = get(records + at + 2, 2), inode = get(records + at + 4, 4);
        if (name_size + link + inode > size - at - HEAD) break;
        if (inode && inode < INODE) return NONE;
        u64 slash = name_size, leaf;
        while (slash && name[slash - 1] != '/') slash--;
        leaf = name_size - slash;
        int alone = link || inode != INODE || (name[name_size + 1] & 0xf0) != S_IFREG >> 8 || !leaf || leaf > LEAF ||
                    (name[slash] == '.' && (leaf == 1 || (leaf == 2 && name[slash + 1] == '.')));
        for (u64 j = slash; j < name_size; j++) alone |= !name[j];
        if (alone || !*count || !runs[2 * *count - 1] || slash != head || !equal(name, records + last + HEAD, head)) {
            if (*count == room) break;
            runs[2 * *count] = at, runs[2 * *count + 1] = 0;
            ++*count;
        }
        if (!alone) {
            runs[2 * *count - 1]++;
            head = slash, last = at;
            names = put(copy(names, name + slash, leaf), 0, 1);
            inodes = copy(put(copy(inodes, name + name_size, 2), layer, 2), name + name_size + 4, INODE - 4);
            if (number != NONE) put(inodes - 8, i, 8);
        }
        at += HEAD + name_size + link + inode;
    }
    return at;
}

/* Moves files from one directory to another: `names` are pairs of names, each with a NUL. How many pairs were moved: all,
 * but for the one that failed and those behind it. */
EXPORTED u64 kist_move(int from, int to, const char *names, u64 pairs) {
    u64 done = 0;
    for (; done < pairs; done++) {
        const char *old = names, *new = old + length(old) + 1;
        if (sys(renameat2, from, old, to, new, 0)) break;
        names = new + length(new) + 1;
    }
    return done;
}

/* Inodes of regular files as erofs.py writes them, 64 bytes each and none across two blocks; in: as view.py has them,
 * without a tail. `at`: where the first one goes; `last`: the number of the last inode before; `bases`: where each
 * layer's archive and its second file begin, in blocks. Returns how many bytes were written. */
EXPORTED u64 kist_inodes(const byte *inodes, u64 count, u64 at, u64 last, const u64 *bases, byte *out, u64 *numbers) {
    byte *to = out;
    for (u64 i = 0; i < count; i++, inodes += INODE, at += 64) {
        u64 size = get(inodes + 24, 8), place = get(inodes + 32, 8), left = BLOCK - at % BLOCK;
        u64 where = size ? bases[2 * get(inodes + 2, 2) + (place >> 63)] + (place << 1 >> 10) : 0;
        if (left < 64) to = put(to, 0, (int)left), at += left;
        numbers[i] = at / 32;
        to = put(put(copy(put(put(to, 1, 2), 0, 2), inodes, 2), 0, 2), size, 8); /* i_format 1: extended, flat */
        to = copy(put(put(to, where, 4), last + 1 + i, 4), inodes + 4, 8);
        to = put(put(copy(copy(to, inodes + 16, 8), inodes + 12, 4), 1, 4), 0, 16);
    }
    return (u64)(to - out);
}

/* The blocks of directories, `counts` of names in each: those are ascending, with a NUL after each; `types` and `numbers`
 * of their inodes, where 0 is the next one of `plain`. In: `sizes`; out: those of the directories, which are then padded to
 * whole blocks. Returns how many bytes were written. */
EXPORTED u64 kist_dirents(const u64 *counts, u64 directories, const char *names, const u64 *numbers, const byte *types,
                          const u64 *plain, byte *out, u64 *sizes) {
    byte *to = out;
    for (u64 directory = 0; directory < directories; directory++) {
        byte *start = to, *block = to, *text;
        for (u64 left = counts[directory], here; left; left -= here) {
            u64 used = 0;
            const char *name = names;
            for (here = 0; here < left && used + DIRENT + length(name) <= BLOCK; here++) {
                used += DIRENT + length(name);
                name += length(name) + 1;
            }
            if (!here) return 0; /* no name is as long */
            for (text = block + here * DIRENT; names < name; numbers++, types++) {
                to = put(put(put(to, *numbers ? *numbers : *plain++, 8), (u64)(text - block), 2), *types, 2);
                for (; *names; names++) *text++ = (byte)*names;
                names++;
            }
            sizes[directory] = (u64)(text - start);
            to = block = put(text, 0, (int)(BLOCK - used));
        }
    }
    return (u64)(to - out);
}
