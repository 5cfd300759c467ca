/* What a log says, as it was printed: the reader's side of log.c, as fast as the writer's.
 *
 * A place is always behind a whole record: what a full disk or a killed supervisor has left of one is cut off. A file is
 * complete as soon as there is a next one. Files that are followed are kept for so long (log.c) that one that is missing
 * means a reader far behind. */
#include "launcher.h"

#define IN_ROOM (4 * RELAY_ROOM)
#define OUT_ROOM (2 * RELAY_ROOM)
#define IN_NONBLOCK 04000
#define IN_NEWS 0x782UL /* MODIFY, MOVED_TO, CREATE, DELETE, DELETE_SELF */
#define STAMP 30

_Static_assert(IN_ROOM >= 2 * LOG_ROOM, "the longest record fits");

static struct {
    const struct show_log *plan;
    int fd, next, news;     /* next: the file that follows, as soon as it is there */
    ulong number, at, used; /* the file's; where its first record begins that was not shown; of `out` */
    uint stream, over;      /* of what is in `out`; all that comes is later than was asked for */
    uint within[3];         /* a line of the stream has begun */
} r;
static char in[IN_ROOM], out[OUT_ROOM];

static long flush(void) {
    for (ulong done = 0; done < r.used;) {
        long n = sys(write, r.stream, out + done, r.used - done);
        if (n > 0) {
            done += (ulong)n;
        } else if (n == -EAGAIN) {
            struct pollfd ready = {(int)r.stream, POLLOUT, 0};
            sys(ppoll, &ready, 1, 0, 0, 8);
        } else if (n != -EINTR) {
            return n;
        }
    }
    r.used = 0;
    return 0;
}

static long put(uint stream, const char *text, ulong n) {
    while (n) {
        if (r.used == OUT_ROOM || (r.used && r.stream != stream)) {
            long e = flush();
            if (e < 0) return e;
        }
        ulong some = n < OUT_ROOM - r.used ? n : OUT_ROOM - r.used;
        memcpy(out + r.used, text, some);
        r.stream = stream;
        r.used += some;
        text += some;
        n -= some;
    }
    return 0;
}

static long say_lost(const char *number, ulong n, uint stream) {
    long e = put(2, "kist: ", 6);
    if (e == 0) e = put(2, number, n);
    if (e == 0) e = stream == 1 ? put(2, " bytes of stdout", 16) : put(2, " bytes of stderr", 16);
    return e < 0 ? e : put(2, " were lost: disk full\n", 22);
}

static int later(const char *stamp, const char *than) {
    for (int i = 0; i < STAMP; i++)
        if (stamp[i] != than[i]) return (unsigned char)stamp[i] > (unsigned char)than[i];
    return 0;
}

/* One record, of which the newline is at `end`. What has another form was not written by us. */
static long show(const char *record, const char *end) {
    const struct show_log *a = r.plan;
    if (end - record < LOG_HEAD || !starts_with(record + STAMP, " std") || record[LOG_HEAD - 3] != ' ') return 0;
    if (a->since.n && later(a->since.s, record)) return 0;
    if (a->until.n && later(record, a->until.s)) {
        r.over = 1;
        return 0;
    }
    uint stream = record[STAMP + 4] == 'o' ? 1 : 2;
    const char *text = record + LOG_HEAD;
    char tag = record[LOG_HEAD - 2];
    if (tag == 'L') return say_lost(text, (ulong)(end - text), stream);
    if (tag != 'F' && tag != 'P') return 0;
    long e = a->timestamps.n && !r.within[stream] ? put(stream, record, STAMP + 1) : 0;
    r.within[stream] = tag == 'P';
    return e < 0 ? e : put(stream, text, (ulong)(end - text) + (tag == 'F'));
}

/* The whole records that are there from r.at on. 0: none. */
static long show_some(void) {
    long n = sys(pread64, r.fd, in, sizeof in, r.at);
    if (n <= 0) return n == -EINTR ? 1 : n;
    const char *record = in, *end = in + n;
    for (const char *newline; (newline = find_newline(record, end)) < end; record = newline + 1) {
        long e = show(record, newline);
        if (e < 0) return e;
    }
    if (record == in && n == sizeof in) record = end; /* no record of ours is so long */
    r.at += (ulong)(record - in);
    n = flush();
    return n < 0 ? n : record - in;
}

/* The next file, or the first; 0: it is not there yet. */
static long open_next(void) {
    long fd = r.number ? log_open(r.plan->prefix.s, r.number + 1, O_RDONLY) : -ENOENT;
    if (fd == -ENOENT) {
        ulong first, last;
        long own = r.number ? log_open(r.plan->prefix.s, r.number, O_PATH) : -ENOENT;
        shut((int)own);
        if (own != -ENOENT) return own < 0 ? own : 0;
        log_numbers(r.plan->prefix.s, r.number, &first, &last);
        if (!first) return 0;
        if (r.number && first != r.number + 1) return -ENODATA;
        fd = log_open(r.plan->prefix.s, first, O_RDONLY);
        if (fd == -ENOENT) return r.number ? -ENODATA : 0;
        if (fd >= 0 && !r.number) r.number = first - 1;
    }
    if (fd < 0) return fd;
    r.next = (int)fd;
    return 1;
}

/* Files before this one are not needed any more, for our part. */
static void let_go(void) {
    struct lock lock = {F_UNLCK, 0, 0, (long)r.number, 0};
    if (r.number) sys(fcntl, r.plan->lock.n, F_OFD_SETLK, &lock);
}

/* All that is there. */
static long show_all(void) {
    while (!r.over) {
        long n = r.fd < 0 ? 0 : show_some();
        if (n < 0) return n;
        if (n) continue;
        if (r.next < 0) {
            n = open_next();
            if (n <= 0) return n;
            if (r.fd >= 0) continue; /* what was written before there was a next one */
        }
        shut(r.fd);
        r.fd = r.next;
        r.next = -1;
        r.number++;
        r.at = 0;
        let_go();
    }
    return 0;
}

static long watch_files(void) {
    char directory[4096];
    split_path(r.plan->prefix.s, directory);
    long n = sys(inotify_init1, O_CLOEXEC | IN_NONBLOCK);
    if (n < 0) return n;
    r.news = (int)n;
    n = sys(inotify_add_watch, r.news, directory, IN_NEWS);
    return n == -ENOENT || n > 0 ? 0 : n; /* a container that was removed: its end is told, too */
}

/* Until there may be more; 1: the container has ended, and this is all. */
static long wait_for_news(void) {
    static char events[4096];
    struct pollfd fds[] = {{r.news, POLLIN, 0}, {0, POLLIN, 0}, {1, 0, 0}};
    long n = sys(ppoll, fds, 3, 0, 0, 8);
    if (n < 0) return n == -EINTR ? 0 : n;
    if (fds[2].revents & (POLLERR | POLLHUP)) return -EPIPE;
    while (sys(read, r.news, events, sizeof events) > 0);
    return fds[1].revents != 0;
}

long show_log(struct state *s, const struct step *step) {
    ARGUMENTS(show_log);
    struct pollfd caller = {s->orders, 0, 0};
    struct __kernel_timespec now = {0, 0};
    ulong blocked = SIGBIT(SIGPIPE); /* that is an error like others */
    r.plan = a;
    r.next = r.news = -1;
    sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (sys(ppoll, &caller, 1, &now, 0, 8) > 0) return -ESRCH; /* it had gone before that */
    sys(rt_sigprocmask, 2 /* SIG_SETMASK */, &blocked, 0, 8);
    r.number = a->number.n;
    r.at = a->offset.n;
    long n = r.number ? log_open(a->prefix.s, r.number, O_RDONLY) : -1;
    r.fd = n < 0 ? -1 : (int)n;
    if (r.number && n < 0) return n == -ENOENT ? -ENODATA : n;
    let_go();
    n = a->follow.n ? watch_files() : 0;
    for (long last = !a->follow.n; n >= 0; last = n) {
        n = show_all();
        if (n < 0 || last || r.over) break;
        n = wait_for_news();
    }
    return n < 0 ? n : 0;
}
