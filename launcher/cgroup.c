/* The container's cgroups at the end, and all else that was made on the host: undone in reverse. */
#include "launcher.h"

void freeze(const char *file, int on) {
    ulong n = length(file);
    if (!n) return;
    int v1 = n > 6 && same(file + n - 6, ".state");
    const char *word = v1 ? (on ? "FROZEN" : "THAWED") : (on ? "1" : "0");
    write_path(file, word, length(word));
}

/* Kill what still runs in a cgroup: one write on v2; on v1 process by process, thawed, since the frozen don't die. */
static void empty_cgroup(const char *path) {
    static char text[65536];
    char name[4096];
    if (!path_in(name, path, "cgroup.kill") || write_path(name, "1", 1) == 0) return;
    if (!path_in(name, path, "cgroup.procs")) return;
    int fd = (int)open_at(AT_FDCWD, name, O_RDONLY, 0);
    long size = fd < 0 ? 0 : sys(read, fd, text, sizeof text);
    shut(fd);
    int pid = 0, me = (int)sys(getpid);
    for (long i = 0; i < size; i++) {
        if (text[i] >= '0' && text[i] <= '9') pid = pid * 10 + text[i] - '0';
        else { if (pid > 1 && pid != me) sys(kill, pid, SIGKILL); pid = 0; }
    }
    if (path_in(name, path, "freezer.state")) freeze(name, 0);
}

/* Remove a cgroup and those that the container made below it, deepest first; 0 when all are gone. */
static long remove_cgroup_tree(const char *path, int depth) {
    long r = sys(unlinkat, AT_FDCWD, path, 0x200 /* AT_REMOVEDIR */);
    if (r != -EBUSY && r != -ENOTEMPTY) return r == -ENOENT ? 0 : r;
    empty_cgroup(path);
    int fd = depth < 16 ? (int)open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0) : -1;
    char entries[2048];
    for (long n; fd >= 0 && (n = sys(getdents64, fd, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < n; at += ((struct entry *)(entries + at))->size) {
            struct entry *entry = (struct entry *)(entries + at);
            char below[4096];
            if (entry->type != 4 /* DT_DIR */ || same(entry->name, ".") || same(entry->name, "..")) continue;
            if (path_in(below, path, entry->name)) remove_cgroup_tree(below, depth + 1);
        }
    }
    shut(fd);
    r = sys(unlinkat, AT_FDCWD, path, 0x200);
    return r == -ENOENT ? 0 : r;
}

static void remove_cgroup(const char *path) {
    for (ulong waited = 0; remove_cgroup_tree(path, 0) == -EBUSY && waited < 5000; waited += waited < 10 ? 1 : 10)
        nap_ms(waited < 10 ? 1 : 10);
}

/* A file, or a directory that is empty by now. */
static void remove_path(const char *path) {
    if (sys(unlinkat, AT_FDCWD, path, 0) == -EISDIR) sys(unlinkat, AT_FDCWD, path, 0x200);
}

void undo_all(struct state *s) {
    struct step step;
    while (s->undo_count) {
        decode_step(&s->plan, s->undo[--s->undo_count], &step);
        if (step.op == OP_CGROUP_MAKE) remove_cgroup(step.arguments[0].s);
        else if (step.op == OP_NETLINK) undo_network(s, &step);
        else remove_path(step.arguments[0].s);
    }
    network_undone();
}
