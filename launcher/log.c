/* What the command prints, in files: a record a line, as Kubernetes has it (CRI), with a prefix of always 40 bytes:
 *
 *     2026-11-26T11:37:29.123456789Z stdout F a line       F: the rest of a line; P: a part of one, without its end
 *     2026-11-26T11:37:29.123456789Z stderr L 4096         so many bytes of the stream could not be written
 *
 * Files are PREFIX.1, PREFIX.2, ...; the highest is written to. Nobody waits for the disk: what it has no room for is
 * counted, and the count is written as soon as there is room. Nor for a reader: one that follows has
 * byte N of PREFIX.followed, and all behind it, locked as long as it needs file N; a bounded number of files more than
 * asked for is kept for it (log_show.c). */
#include "launcher.h"

#define HEAD LOG_HEAD
#define ROOM LOG_ROOM
#define SPARE_BYTES (1UL << 30) /* for those who follow: as far behind as they may be */
#define MOST_DROPPED 64         /* at once: the container waits meanwhile */

static struct {
    int fd;                       /* -1: none */
    const char *prefix;
    ulong limit, keep;            /* bytes of a file; how many files */
    ulong first, number;          /* the oldest that is there; the one that is written to */
    ulong size, used, text;       /* of the file up to its last whole record; of the buffer; of the text in it */
    ulong lost[3];                /* by stream */
    ulong second;                 /* that `head` says */
    char head[HEAD];
} log = {.fd = -1};
static char buffer[ROOM];

static void two(char *to, ulong n) {
    to[0] = (char)('0' + n / 10);
    to[1] = (char)('0' + n % 10);
}

/* Source: Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, eras have 400 of them. */
static void write_date(char *to, ulong days) {
    days += 719468;
    ulong era = days / 146097, day = days % 146097;
    ulong year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    ulong month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    month = month < 10 ? month + 3 : month - 9;
    year += era * 400 + (month <= 2);
    two(to, year / 100);
    two(to + 2, year % 100);
    to[4] = to[7] = '-';
    two(to + 5, month);
    two(to + 8, day + 1);
}

const char *log_stamp(void) {
    struct __kernel_timespec t;
    sys(clock_gettime, 0 /* CLOCK_REALTIME */, &t);
    ulong second = (ulong)t.tv_sec, ns = (ulong)t.tv_nsec;
    if (second != log.second) {
        write_date(log.head, second / 86400);
        log.head[10] = 'T';
        two(log.head + 11, second % 86400 / 3600);
        two(log.head + 14, second % 3600 / 60);
        two(log.head + 17, second % 60);
        log.head[13] = log.head[16] = ':';
        log.head[19] = '.';
        log.head[29] = 'Z';
        log.head[39] = ' ';
        log.second = second;
    }
    for (int i = 28; i > 19; i--, ns /= 10) log.head[i] = (char)('0' + ns % 10);
    return log.head;
}

static void write_head(uint stream) {
    static const char names[3][9] = {"", " stdout ", " stderr "};
    log_stamp();
    memcpy(log.head + 30, names[stream], 8);
}

/* PREFIX.END; 0 when that is too long. */
static int name_file(char path[4096], const char *prefix, const char *end) {
    ulong n = length(prefix), more = length(end);
    if (n + more + 2 > 4096) return 0;
    memcpy(path, prefix, n);
    path[n] = '.';
    memcpy(path + n + 1, end, more + 1);
    return 1;
}

static int file_name(char path[4096], const char *prefix, ulong number) {
    char digits[21];
    decimal(digits, number);
    return name_file(path, prefix, digits);
}

static ulong number_in(const char *text) {
    ulong n = 0;
    for (; *text >= '0' && *text <= '9'; text++) n = n * 10 + (ulong)(*text - '0');
    return n;
}

long log_open(const char *prefix, ulong number, int flags) {
    char path[4096];
    return file_name(path, prefix, number) ? open_at(AT_FDCWD, path, flags | O_NOFOLLOW, 0600) : -ENAMETOOLONG;
}

void log_numbers(const char *prefix, ulong above, ulong *first, ulong *last) {
    char directory[4096], entries[2048], digits[21];
    *first = *last = 0;
    const char *base = split_path(prefix, directory);
    ulong size = length(base);
    int fd = (int)open_at(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
    for (long n; fd >= 0 && (n = sys(getdents64, fd, entries, sizeof entries)) > 0;)
        for (long at = 0; at < n; at += ((struct entry *)(entries + at))->size) {
            const char *name = ((struct entry *)(entries + at))->name;
            if (!starts_with(name, base) || name[size] != '.' || length(name + size + 1) > 18) continue;
            ulong number = number_in(name + size + 1);
            decimal(digits, number);
            if (number <= above || !same(name + size + 1, digits)) continue;
            if (number > *last) *last = number;
            if (!*first || number < *first) *first = number;
        }
    shut(fd);
}

/* Whether somebody follows who is not behind this file. */
static int is_needed(ulong number) {
    struct lock lock = {F_WRLCK, 0, 0, (long)number + 1, 0};
    char path[4096];
    if (!name_file(path, log.prefix, "followed")) return 0;
    int fd = (int)open_at(AT_FDCWD, path, O_RDWR | O_NOFOLLOW, 0);
    long r = fd < 0 ? fd : sys(fcntl, fd, F_OFD_GETLK, &lock);
    shut(fd);
    return r == 0 && lock.type != F_UNLCK;
}

static void drop_oldest(ulong newest) {
    char path[4096];
    ulong spare = SPARE_BYTES / log.limit;
    for (int i = 0; i < MOST_DROPPED && log.first + log.keep <= newest; i++, log.first++) {
        if (log.first + log.keep + spare > newest && is_needed(log.first)) return;
        if (file_name(path, log.prefix, log.first)) sys(unlinkat, AT_FDCWD, path, 0);
    }
}

static long open_file(ulong number) {
    return log_open(log.prefix, number, O_RDWR | O_APPEND | O_CREAT);
}

/* First the oldest goes: it may be what the new one's room is taken from. */
static long next_file(void) {
    drop_oldest(log.number + 1);
    long fd = open_file(log.number + 1);
    if (fd < 0) return fd;
    shut(log.fd);
    log.fd = (int)fd;
    log.number++;
    log.size = 0;
    return 0;
}

/* How much text the whole records of the buffer's first `size` bytes stand for; `whole`: where the last of them ends. They
 * stay: somebody may have read them already. */
static ulong text_of(ulong size, ulong *whole) {
    const char *at = buffer, *end = buffer + size;
    ulong text = 0;
    for (const char *next; (next = find_newline(at + HEAD, end)) < end; at = next + 1) {
        ulong n = (ulong)(next - at - HEAD) + (at[HEAD - 2] == 'F');
        if (at[HEAD - 2] == 'L') n = number_in(at + HEAD);
        text += n;
    }
    *whole = (ulong)(at - buffer);
    return text;
}

/* All records of the buffer, or as many as there is room for. */
static void flush(uint stream) {
    ulong done = 0;
    while (done < log.used) {
        long n = sys(write, log.fd, buffer + done, log.used - done);
        if (n <= 0 && n != -EINTR) break;
        if (n > 0) done += (ulong)n;
    }
    if (done == log.used) {
        log.size += done;
    } else {
        ulong whole, text = text_of(done, &whole);
        if (done > whole) sys(ftruncate, log.fd, log.size + whole);
        log.size += whole;
        log.lost[stream] += log.text - text;
    }
    log.used = log.text = 0;
}

/* Room for a record of so many bytes; 0: it is lost. */
static int make_room(uint stream, ulong bytes) {
    int full = log.size + log.used && log.size + log.used + bytes > log.limit;
    if (log.used + bytes > ROOM || (full && log.used)) flush(stream);
    return !(full && log.size && log.size + bytes > log.limit) || next_file() == 0;
}

static void put(char tag, const char *text, ulong n) {
    char *to = buffer + log.used;
    memcpy(to, log.head, HEAD);
    to[HEAD - 2] = tag;
    memcpy(to + HEAD, text, n);
    to[HEAD + n] = '\n';
    log.used += HEAD + n + 1;
}

/* How much was lost: written together with what follows, or lost again. */
static void confess(uint stream) {
    char number[21];
    ulong lost = log.lost[stream];
    if (!lost) return;
    ulong n = decimal(number, lost);
    if (!make_room(stream, HEAD + n + 1)) return;
    put('L', number, n);
    log.text = lost;
    log.lost[stream] = 0;
}

void log_take(uint stream, const char *data, ulong size) {
    if (log.fd < 0 || !stream) return;
    write_head(stream);
    confess(stream);
    for (const char *end = data + size; data < end;) {
        const char *at = find_newline(data, end);
        ulong n = (ulong)(at - data), whole = at < end;
        int room = !log.lost[stream] && make_room(stream, HEAD + n + 1);
        if (!room || log.lost[stream]) { /* once something is lost, all up to the next time */
            log.lost[stream] += n + whole;
        } else {
            put(whole ? 'F' : 'P', data, n);
            log.text += n + whole;
        }
        data = at + whole;
    }
    flush(stream);
}

void log_end(void) {
    for (uint stream = 1; stream < 3 && log.fd >= 0; stream++) {
        write_head(stream);
        confess(stream);
        flush(stream);
    }
    shut(log.fd);
    log.fd = -1;
}

/* A supervisor that was killed while it wrote has left a part of a record. */
static long whole_records(void) {
    struct statx st;
    long r = sys(statx, log.fd, "", AT_EMPTY_PATH, STATX_SIZE, &st);
    if (r < 0) return r;
    ulong from = st.stx_size > ROOM ? st.stx_size - ROOM : 0;
    long n = sys(pread64, log.fd, buffer, ROOM, from);
    if (n < 0) return n;
    while (n > 0 && buffer[n - 1] != '\n') n--;
    log.size = from + (ulong)n;
    return log.size < st.stx_size ? sys(ftruncate, log.fd, log.size) : 0;
}

long log_begin(const char *prefix, ulong limit, ulong keep) {
    log.prefix = prefix;
    log.limit = limit ? limit : 1;
    log.keep = keep ? keep : 1;
    log_numbers(prefix, 0, &log.first, &log.number);
    if (!log.number) {
        log.first = 1;
        return next_file();
    }
    log.fd = (int)open_file(log.number);
    return log.fd < 0 ? log.fd : whole_records();
}
