/* How it ended, in a file that whoever asks later reads: one JSON object, whole or not there at all.
 * The file is made, with its room, before the container is: a full disk does not take the end's record away. On one that
 * has become read-only it keeps its first name, by which it is found, too. */
#include "launcher.h"

#define ROOM 32768

static struct {
    int fd;              /* of the file under its first name; -1: nothing to record */
    const char *path;
    uint known, whole, written; /* whether it has ended; whether the text says all; and whether it was recorded */
    ulong used, reports;
} ended = {.fd = -1};
static char record[ROOM];

static int new_name(char path[4096]) {
    ulong n = length(ended.path);
    if (n + 5 > 4096) return 0;
    memcpy(path, ended.path, n);
    memcpy(path + n, ".new", 5);
    return 1;
}

long ended_begin(const char *path) {
    char name[4096];
    ended.path = path;
    if (!new_name(name)) return -ENAMETOOLONG;
    ended.fd = (int)open_at(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (ended.fd < 0) return ended.fd;
    long r = sys(fallocate, ended.fd, 1 /* FALLOC_FL_KEEP_SIZE */, 0, ROOM);
    return r == -ENOSPC || r == -EDQUOT ? r : 0; /* a file system that cannot promise room may have it */
}

void ended_forget(void) {
    char name[4096];
    if (ended.fd >= 0 && !ended.written && new_name(name)) sys(unlinkat, AT_FDCWD, name, 0);
    shut(ended.fd);
    ended.fd = -1;
}

static void add(const char *text) {
    ulong n = length(text);
    memcpy(record + ended.used, text, n);
    ended.used += n;
}

static void add_number(const char *key, ulong number) {
    char digits[21];
    decimal(digits, number);
    add(key);
    add(digits);
}

static void add_escaped(const char *text, ulong n) {
    static const char hex[] = "0123456789abcdef";
    for (ulong i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        char plain[] = {(char)c, 0}, code[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15], 0};
        add(c < ' ' || c == '"' || c == '\\' || c > '~' ? code : plain);
    }
}

/* The kernel's files are ASCII. One that would not fit is left out: a report is no reason to lose the others. */
void ended_report(const char *label, const char *text, ulong n) {
    if (ended.fd < 0 || !ended.known || ended.used + (length(label) + n) * 6 + 64 > ROOM) return;
    add(ended.reports++ ? ",\"" : "\"");
    add_escaped(label, length(label));
    add("\":\"");
    add_escaped(text, n);
    add("\"");
}

void ended_know(const struct end *end) {
    struct __kernel_timespec t;
    if (ended.fd < 0) return;
    sys(clock_gettime, 0 /* CLOCK_REALTIME */, &t);
    add_number("{\"code\":", end->code);
    add(end->signaled ? ",\"signaled\":true" : ",\"signaled\":false");
    add(end->timed_out ? ",\"timed_out\":true" : ",\"timed_out\":false");
    add_number(",\"ended_ns\":", (ulong)t.tv_sec * 1000000000UL + (ulong)t.tv_nsec);
    add_number(",\"wall_ns\":", end->wall_ns);
    add_number(",\"user_us\":", end->user_us);
    add_number(",\"system_us\":", end->system_us);
    add_number(",\"max_rss_bytes\":", end->max_rss_kib << 10);
    add(",\"reports\":{");
    ended.known = 1;
}

long ended_write(void) {
    char name[4096];
    if (ended.fd < 0 || !ended.known || ended.written) return 0;
    if (!ended.whole++) add("}}\n");
    long r = 0;
    for (ulong done = 0; done < ended.used && r >= 0; done += (ulong)r) r = sys(pwrite64, ended.fd, record + done, ended.used - done, done);
    sys(ftruncate, ended.fd, ended.used); /* room that was not needed */
    if (r >= 0) r = new_name(name) ? sys(renameat2, AT_FDCWD, name, AT_FDCWD, ended.path, 0) : -ENAMETOOLONG;
    ended.written = r >= 0;
    return r;
}

int ended_known(void) { return (int)ended.known; }
