/* Steps that build the container's root. Every path is resolved inside the root by openat2 and used as an fd. */
#include "launcher.h"

/* What a bind mount makes of symbolic links. */
enum { NOFOLLOW_SOURCE = 1, NOFOLLOW_TARGET = 2, COPY_LINK = 4 };

#define NODES "/dev/.kist-nodes" /* where the host's device nodes are for a moment */

static long resolve(struct state *s, const char *path, ulong flags, ulong mode) {
    while (*path == '/') path++;
    struct open_how how = {flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return sys(openat2, s->slots[SLOT_ROOT], *path ? path : ".", &how, sizeof how);
}

/* Where the link `last` in `dir`, the last part of `path`, points to, as a path inside the root. */
static long follow(int dir, const char *path, const char *last, char to[4096]) {
    ulong n = (ulong)(last - path);
    if (n >= 4095) return -ENAMETOOLONG;
    long size = sys(readlinkat, dir, last, to + n, 4095 - n);
    if (size < 0) return size;
    to[n + (ulong)size] = 0;
    if (to[n] != '/') { memcpy(to, path, n); return 0; }
    for (ulong i = 0; i <= (ulong)size; i++) to[i] = to[n + i];
    return 0;
}

static long mount_point(struct state *s, const char *path, int directory, int nofollow);

/* A part of a path is a link that points to nothing: make that. */
static void make_target(struct state *s, int dir, const char *path, const char *last) {
    static int depth;
    char target[4096];
    if (depth == 40 || follow(dir, path, last, target) < 0) return;
    depth++;
    long fd = mount_point(s, target, 1, 0);
    depth--;
    shut(fd < 0 ? -1 : (int)fd);
}

/* The directory that holds the last part of `path`; missing directories are made. `last` points at that part. */
static long parent_of(struct state *s, const char *path, const char **last) {
    while (*path == '/') path++;
    int dir = (int)resolve(s, "/", O_PATH | O_DIRECTORY, 0);
    char name[4096];
    ulong done = 0;
    for (;;) {
        if (dir < 0) return dir;
        const char *slash = find(path + done, '/');
        if (!slash || !slash[1]) break;
        ulong end = (ulong)(slash - path);
        if (end >= sizeof name) { shut(dir); return -ENAMETOOLONG; }
        memcpy(name, path, end);
        name[end] = 0;
        int next = (int)resolve(s, name, O_PATH | O_DIRECTORY, 0);
        if (next == -ENOENT) {
            long r = sys(mkdirat, dir, name + done, 0755);
            if (r == -EEXIST) make_target(s, dir, name, name + done);
            else if (r < 0) { shut(dir); return r; }
            next = (int)resolve(s, name, O_PATH | O_DIRECTORY, 0);
        }
        shut(dir);
        dir = next;
        done = end + 1;
        while (path[done] == '/') done++;
    }
    *last = path + done;
    return dir;
}

static long make_directory(struct state *s, const char *path, uint mode, uint uid, uint gid) {
    const char *last;
    int dir = (int)parent_of(s, path, &last);
    if (dir < 0) return dir;
    long r = *last ? sys(mkdirat, dir, last, mode & 07777) : -EEXIST;
    if (r == 0) {
        int fd = (int)open_at(dir, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        r = fd < 0 ? fd : sys(fchmod, fd, mode & 07777); /* whatever the umask */
        if (r == 0 && (uid || gid)) r = sys(fchown, fd, uid, gid);
        shut(fd);
    } else if (r == -EEXIST) {
        r = 0;
    }
    shut(dir);
    return r;
}

/* The mount point at `path`, made when missing; where a link points to nothing, there. */
static long mount_point(struct state *s, const char *path, int directory, int nofollow) {
    char target[4096];
    for (int links = 0; links < 40; links++) {
        long fd = nofollow ? -ENOENT : resolve(s, path, O_PATH, 0);
        if (fd != -ENOENT) return fd;
        const char *last;
        int dir = (int)parent_of(s, path, &last);
        if (dir < 0) return dir;
        if (nofollow) fd = *last ? open_at(dir, last, O_PATH | O_NOFOLLOW, 0) : -EINVAL;
        long r = fd;
        if (fd == -ENOENT) {
            r = directory ? sys(mkdirat, dir, last, 0755)
                          : open_at(dir, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
            if (r > 0) shut((int)r);
            if (r >= 0) r = open_at(dir, last, O_PATH | O_NOFOLLOW, 0);
            else if (r == -EEXIST && (r = follow(dir, path, last, target)) == 0) path = target, r = -EAGAIN;
        }
        shut(dir);
        if (r != -EAGAIN) return r;
    }
    return -ELOOP;
}

static long move_into(int tree, int at) {
    return sys(move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A detached mount of a new file system; options are "key" or "key=value"; mode "" says nothing. */
static long new_mount(const char *type, const char *source, const char *option, ulong count, const char *mode, uint attributes) {
    int fs = (int)sys(fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0) return fs;
    long r = sys(fsconfig, fs, FSCONFIG_SET_STRING, "source", *source ? source : type, 0);
    for (; r >= 0 && count--; option += length(option) + 1) {
        char key[256];
        const char *equals = find(option, '=');
        ulong n = equals ? (ulong)(equals - option) : length(option);
        if (n >= sizeof key) { r = -ENAMETOOLONG; break; }
        memcpy(key, option, n);
        key[n] = 0;
        r = equals ? sys(fsconfig, fs, FSCONFIG_SET_STRING, key, equals + 1, 0)
                   : sys(fsconfig, fs, FSCONFIG_SET_FLAG, key, 0, 0);
    }
    if (r >= 0 && *mode) r = sys(fsconfig, fs, FSCONFIG_SET_STRING, "mode", mode, 0);
    if (r >= 0 && attributes & MOUNT_ATTR_RDONLY) r = sys(fsconfig, fs, FSCONFIG_SET_FLAG, "ro", 0, 0); /* as mount(2) */
    if (r >= 0) r = sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (r >= 0) r = sys(fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    shut(fs);
    return r;
}

static long copy_file(int from, int to, const char *name, const struct statx *st) {
    int in = (int)open_at(from, name, O_RDONLY | O_NOFOLLOW, 0);
    int out = in < 0 ? in : (int)open_at(to, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    long r = out;
    if (out >= 0)
        while ((r = sys(sendfile, out, in, 0, 1 << 20)) > 0);
    if (r == 0) r = sys(fchown, out, st->stx_uid, st->stx_gid);
    if (r == 0) r = sys(fchmod, out, st->stx_mode & 07777);
    shut(in);
    shut(out);
    return r;
}

static long copy_other(int from, int to, const char *name, const struct statx *st) {
    char content[4096];
    long r;
    if ((st->stx_mode & S_IFMT) == S_IFLNK) {
        r = sys(readlinkat, from, name, content, sizeof content - 1);
        if (r < 0) return r;
        content[r] = 0;
        r = sys(symlinkat, content, to, name);
    } else {
        uint major = st->stx_rdev_major, minor = st->stx_rdev_minor;
        r = sys(mknodat, to, name, st->stx_mode, (major & 0xfff) << 8 | (minor & 0xff) | (minor & 0xfff00) << 12);
    }
    return r < 0 ? r : sys(fchownat, to, name, st->stx_uid, st->stx_gid, AT_SYMLINK_NOFOLLOW);
}


/* What lies in the directory `from` (an O_PATH fd will do) into `to`, at most 64 directories deep. */
static long copy_entries(int from, int to, int depth) {
    char entries[2048];
    if (depth > 64) return -ELOOP;
    int list = (int)open_at(from, ".", O_RDONLY | O_DIRECTORY, 0);
    long n = list, r = list < 0 ? list : 0;
    while (r == 0 && (n = sys(getdents64, list, entries, sizeof entries)) > 0)
        for (long at = 0; r == 0 && at < n; at += ((struct entry *)(entries + at))->size) {
            const char *name = ((struct entry *)(entries + at))->name;
            struct statx st;
            if (same(name, ".") || same(name, "..")) continue;
            r = sys(statx, list, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &st);
            if (r < 0) break;
            uint kind = st.stx_mode & S_IFMT;
            if (kind == S_IFREG) r = copy_file(list, to, name, &st);
            else if (kind != S_IFDIR) r = copy_other(list, to, name, &st);
            else {
                r = sys(mkdirat, to, name, 0700);
                int in = (int)open_at(list, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
                int out = (int)open_at(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
                if (r == 0) r = in < 0 ? in : out < 0 ? out : copy_entries(in, out, depth + 1);
                if (r == 0) r = sys(fchown, out, st.stx_uid, st.stx_gid);
                if (r == 0) r = sys(fchmod, out, st.stx_mode & 07777);
                shut(in);
                shut(out);
            }
        }
    shut(list);
    return r < 0 ? r : n < 0 ? n : 0;
}

static long copy_directory(int from, int tree) {
    struct statx st;
    int to = (int)open_at(tree, ".", O_RDONLY | O_DIRECTORY, 0);
    long r = to < 0 ? to : sys(statx, from, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
    if (r >= 0) r = copy_entries(from, to, 0);
    shut(to);
    return r;
}

static long set_attributes(int tree, ulong set, ulong clear, ulong propagation, int recursive) {
    struct mount_attr attr = {set, clear, propagation, 0};
    if (set & MOUNT_ATTR__ATIME) attr.attr_clr |= MOUNT_ATTR__ATIME;
    return sys(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

/* Where a new procfs or sysfs goes: a directory as it stands, no link on the way (CVE-2019-19921, CVE-2023-27561). */
static long plain_directory(struct state *s, const char *path) {
    struct open_how how = {O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};
    while (*path == '/') path++;
    long fd = sys(openat2, s->slots[SLOT_ROOT], *path ? path : ".", &how, sizeof how);
    if (fd != -ENOENT) return fd;
    long r = make_directory(s, path, 0755, 0, 0);
    return r < 0 ? r : sys(openat2, s->slots[SLOT_ROOT], path, &how, sizeof how);
}

static long change_tree(int tree, const struct argument *attributes, ulong propagation) {
    long r = 0;
    if (attributes[0].n || attributes[1].n) r = set_attributes(tree, attributes[0].n, attributes[1].n, 0, 0);
    if (r == 0 && (attributes[2].n || attributes[3].n)) r = set_attributes(tree, attributes[2].n, attributes[3].n, 0, 1);
    if (r == 0 && propagation) r = set_attributes(tree, 0, 0, propagation & ~(ulong)MS_REC, (propagation & MS_REC) != 0);
    return r;
}

static int is_root(const char *path) {
    while (*path == '/') path++;
    return !*path;
}

static long mount_at(struct state *s, const struct step *step) {
    ARGUMENTS(mount_at);
    char mode[] = "0000"; /* what is there already says it */
    struct statx st;
    int there = a->keep_mode.n ? (int)resolve(s, a->target.s, O_PATH | O_DIRECTORY, 0) : -1;
    if (there < 0 || sys(statx, there, "", AT_EMPTY_PATH, STATX_MODE, &st) < 0) *mode = 0;
    for (int i = 0; i < 4 && *mode; i++) mode[i] = (char)('0' + (st.stx_mode >> (9 - 3 * i) & 7));
    shut(there);
    int at = (int)(a->strict.n ? plain_directory(s, a->target.s) : mount_point(s, a->target.s, 1, 0));
    if (at < 0) { s->argument = 2; return at; }
    int tree = (int)new_mount(a->fstype.s, a->source.s, a->options.s, a->options.n, mode, (uint)a->attributes.n);
    long r = tree;
    if (r >= 0 && a->copy_up.n) r = copy_directory(at, tree);
    if (r >= 0) r = move_into(tree, at);
    if (r >= 0 && a->propagation.n) r = set_attributes(tree, 0, 0, a->propagation.n & ~(ulong)MS_REC, (a->propagation.n & MS_REC) != 0);
    shut(at);
    if (r >= 0 && is_root(a->target.s)) s->slots[SLOT_ROOT] = tree;
    else if (r >= 0 && a->slot.n) s->slots[a->slot.n] = tree;
    else shut(tree);
    return r < 0 ? r : 0;
}

static long open_source(int at, const char *source, ulong recursive, ulong nofollow) {
    return sys(open_tree, at, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
               (recursive ? AT_RECURSIVE : 0) | (nofollow ? AT_SYMLINK_NOFOLLOW : 0));
}

/* Keep a mount that hangs nowhere, with the ids of a user namespace. */
static long keep_tree(struct state *s, int tree, ulong slot, ulong id_map, int recursive) {
    if (tree < 0) return tree;
    long r = 0;
    if (id_map) {
        struct mount_attr attr = {MOUNT_ATTR_IDMAP, 0, 0, (ulong)s->slots[id_map]};
        r = sys(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
    }
    if (r < 0) shut(tree); else s->slots[slot] = tree;
    return r;
}

static long take_tree(struct state *s, const struct step *step) {
    ARGUMENTS(open_tree);
    int inside = a->inside.n ? (int)resolve(s, a->source.s, O_PATH | (a->nofollow.n ? O_NOFOLLOW : 0), 0) : AT_FDCWD;
    if (inside < 0 && a->inside.n) return inside;
    if (*a->below.s) { /* a volume: its containers put into it what they like */
        int top = (int)sys(openat, AT_FDCWD, a->source.s, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        struct open_how how = {O_PATH | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
        inside = top < 0 ? top : (int)sys(openat2, top, a->below.s, &how, sizeof how);
        shut(top);
        if (inside < 0) return inside;
    }
    int tree = (int)open_source(inside, inside >= 0 ? "" : a->source.s, a->recursive.n, a->nofollow.n);
    shut(inside);
    return keep_tree(s, tree, a->slot.n, a->id_map.n, a->id_map_recursive.n != 0);
}

#define LENT_FD 200 /* below any soft limit of open files, above what a supervisor has */

/* What another supervisor keeps of the same tree. */
static long borrow_tree(ulong pid, ulong inode) {
    struct statx st;
    int process = (int)sys(pidfd_open, pid, 0);
    long r = process < 0 ? process : sys(statx, process, "", AT_EMPTY_PATH, STATX_INO, &st);
    if (r == 0) r = st.stx_ino == inode ? sys(pidfd_getfd, process, LENT_FD, 0) : -ESRCH;
    shut(process);
    return r;
}

static long new_tree(struct state *s, const struct step *step) {
    ARGUMENTS(new_tree);
    int lent = a->lender.n ? (int)borrow_tree(a->lender.n, a->lender_inode.n) : -1;
    int tree = lent < 0 ? lent : (int)open_source(lent, "", 0, 0);
    if (tree < 0) {
        shut(lent);
        tree = (int)new_mount(a->fstype.s, a->source.s, a->options.s, a->options.n, "", (uint)a->attributes.n);
        lent = tree < 0 ? tree : (int)open_source(tree, "", 0, 0); /* else: before Linux 6.15 */
    }
    if (lent >= 0 && sys(fcntl, LENT_FD, F_GETFD, 0) == -EBADF && sys(dup3, lent, LENT_FD, O_CLOEXEC) >= 0)
        s->slots[SLOT_LENT] = LENT_FD;
    shut(lent);
    s->argument = 1;
    return keep_tree(s, tree, a->slot.n, a->id_map.n, 0);
}

/* The arguments are mode, major, minor, uid, gid. */
static long make_node(int dir, const char *name, const struct argument *a) {
    uint major = (uint)a[1].n, minor = (uint)a[2].n;
    long r = sys(mknodat, dir, name, a[0].n, (major & 0xfff) << 8 | (minor & 0xff) | (minor & 0xfff00) << 12);
    if (r == 0) r = sys(fchmodat, dir, name, a[0].n & 07777);
    if (r == 0 && (a[3].n || a[4].n)) r = sys(fchownat, dir, name, a[3].n, a[4].n, AT_SYMLINK_NOFOLLOW);
    return r;
}

static long copy_link(struct state *s, int link, const char *path) {
    char content[4096];
    const char *last;
    long size = sys(readlinkat, link, "", content, sizeof content - 1);
    if (size < 0) return size;
    content[size] = 0;
    int dir = (int)parent_of(s, path, &last);
    if (dir < 0) return dir;
    long r = sys(symlinkat, content, dir, last);
    shut(dir);
    return r == -EEXIST ? 0 : r;
}

static long bind_at(struct state *s, const struct step *step) {
    ARGUMENTS(bind_at);
    ulong links = a->links.n;
    int tree = a->tree.n ? s->slots[a->tree.n]
                         : (int)open_source(AT_FDCWD, a->source.s, a->recursive.n, links & (NOFOLLOW_SOURCE | COPY_LINK));
    if (tree < 0) return tree;
    if (a->tree.n && a->propagation.n & MS_SHARED) { /* a younger copy, so that mountinfo lists it in the asked order */
        int copy = (int)open_source(tree, "", a->recursive.n, 0);
        if (copy >= 0) { shut(tree); tree = copy; } /* else: before Linux 6.15 */
    }
    struct statx st;
    long r = sys(statx, tree, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    uint kind = st.stx_mode & S_IFMT;
    if (r == 0 && kind == S_IFLNK && links & COPY_LINK) {
        r = copy_link(s, tree, a->target.s);
        shut(tree);
        return r;
    }
    /* What was opened before this mount namespace was the host's slave is a peer of the host's mounts. */
    if (r == 0 && a->tree.n && !(a->propagation.n & MS_SHARED)) r = set_attributes(tree, 0, 0, MS_SLAVE, 1);
    if (r == 0) r = change_tree(tree, step->arguments + 4, a->propagation.n);
    int at = r < 0 ? (int)r : (int)mount_point(s, a->target.s, kind == S_IFDIR, (links & NOFOLLOW_TARGET) != 0);
    if (at >= 0) r = move_into(tree, at); else if (r == 0) { s->argument = 1; r = at; }
    shut(at);
    if (r == 0 && is_root(a->target.s)) s->slots[SLOT_ROOT] = tree; else shut(tree);
    return r;
}

/* A device node made by the host's root, where no user namespace forbids it, in a file system that nobody sees. */
static long host_node(struct state *s, const struct step *step) {
    ARGUMENTS(host_node);
    if (s->slots[a->slot.n] < 0) {
        long tree = new_mount("tmpfs", "tmpfs", "mode=0755\0size=64k", 2, "", 0);
        if (tree < 0) return tree;
        s->slots[a->slot.n] = (int)tree;
    }
    return make_node(s->slots[a->slot.n], a->name.s, step->arguments + 2);
}

static long node_at(struct state *s, const struct step *step) {
    ARGUMENTS(node_at);
    int nodes = s->slots[a->slot.n];
    int tree = (int)sys(open_tree, nodes, a->name.s, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree == -EINVAL) { /* before Linux 6.15 only what is mounted can be cloned */
        int at = (int)mount_point(s, NODES, 1, 1);
        long r = at < 0 ? at : move_into(nodes, at);
        shut(at);
        if (r < 0) return r;
        tree = (int)sys(open_tree, nodes, a->name.s, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    }
    long r = tree < 0 ? tree : set_attributes(tree, a->attributes.n, 0, 0, 0);
    int at = r < 0 ? (int)r : (int)mount_point(s, a->target.s, 0, 0);
    if (at >= 0) r = move_into(tree, at); else r = at;
    shut(at);
    shut(tree);
    return r;
}

/* The nodes are shown where they belong: their file system goes. */
static long drop_nodes(struct state *s, int nodes) {
    if (sys(fchdir, nodes) == 0) sys(umount2, ".", 2 /* MNT_DETACH */); /* fails where it was not mounted */
    sys(chdir, "/");
    const char *last;
    int dir = (int)parent_of(s, NODES, &last);
    sys(unlinkat, dir, last, 0x200 /* AT_REMOVEDIR */);
    shut(dir);
    return 0;
}

static long mknod_at(struct state *s, const struct step *step) {
    ARGUMENTS(mknod_at);
    const char *last;
    int dir = (int)parent_of(s, a->target.s, &last);
    if (dir < 0) return dir;
    sys(unlinkat, dir, last, 0);
    long r = make_node(dir, last, step->arguments + 1);
    shut(dir);
    return r;
}

static long symlink_at(struct state *s, const struct step *step) {
    ARGUMENTS(symlink_at);
    const char *last;
    int dir = (int)parent_of(s, a->target.s, &last);
    if (dir < 0) return dir;
    if (!a->keep.n) sys(unlinkat, dir, last, 0);
    long r = sys(symlinkat, a->content.s, dir, last);
    shut(dir);
    return a->keep.n && r == -EEXIST ? 0 : r;
}

static long write_at(struct state *s, const struct step *step) {
    ARGUMENTS(write_at);
    const char *last;
    int dir = (int)parent_of(s, a->target.s, &last);
    if (dir < 0) return dir;
    sys(unlinkat, dir, last, 0);
    int fd = (int)open_at(dir, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    shut(dir);
    if (fd < 0) return fd;
    long r = 0;
    for (ulong done = 0; r >= 0 && done < a->data.n; done += (ulong)r)
        r = sys(write, fd, a->data.s + done, a->data.n - done);
    if (r >= 0 && (a->uid.n || a->gid.n)) r = sys(fchown, fd, a->uid.n, a->gid.n);
    if (r >= 0) r = sys(fchmod, fd, a->mode.n & 07777);
    shut(fd);
    return r < 0 ? r : 0;
}

/* An empty read-only tmpfs, made once and shown wherever a directory is to be hidden: once attached, it can be cloned. */
static long empty_directory(struct state *s, const struct argument *option) {
    static char options[1024] = "size=0k\0nr_inodes=1";
    static const ulong fixed = sizeof "size=0k\0nr_inodes=1";
    if (s->slots[SLOT_EMPTY] >= 0)
        return sys(open_tree, s->slots[SLOT_EMPTY], "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    ulong size = option->n ? length(option->s) + 1 : 0;
    if (fixed + size > sizeof options || option->n > 1) return -ENAMETOOLONG;
    memcpy(options + fixed, option->s, size);
    long r = new_mount("tmpfs", "tmpfs", options, 2 + option->n, "", MOUNT_ATTR_RDONLY);
    return r < 0 ? r : (s->slots[SLOT_EMPTY] = (int)r);
}

static long mask_at(struct state *s, const struct step *step) {
    ARGUMENTS(mask_at);
    int at = (int)resolve(s, a->target.s, O_PATH, 0);
    if (at == -ENOENT || at == -ENOTDIR) return 0;
    if (at < 0) return at;
    struct statx st;
    long r = sys(statx, at, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    int tree = -1;
    if (r == 0 && (st.stx_mode & S_IFMT) == S_IFDIR) tree = (int)empty_directory(s, &a->options);
    else if (r == 0)
        tree = (int)sys(open_tree, s->slots[SLOT_NULL], "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (r == 0) r = tree < 0 ? tree : move_into(tree, at);
    if (tree != s->slots[SLOT_EMPTY]) shut(tree);
    shut(at);
    return r;
}

static long readonly_at(struct state *s, const struct step *step) {
    ARGUMENTS(readonly_at);
    int at = (int)resolve(s, a->target.s, O_PATH, 0);
    if (at == -ENOENT || at == -ENOTDIR) return 0;
    if (at < 0) return at;
    int tree = (int)sys(open_tree, at, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
    long r = tree < 0 ? tree : set_attributes(tree, MOUNT_ATTR_RDONLY, 0, 0, 0);
    if (r == 0) r = move_into(tree, at);
    shut(tree);
    shut(at);
    return r;
}

/* Inside: nothing that was opened outside is needed any more, but for what writes to the kernel and what starts us. */
static long let_go(struct state *s, long r) {
    for (uint i = 0; r == 0 && i < SLOT_COUNT; i++) {
        if (i == SLOT_PROC || i == SLOT_START || (i >= SLOT_STDIN && i <= SLOT_STDERR)) continue;
        shut(s->slots[i]);
        s->slots[i] = -1;
    }
    return r;
}

static long pivot(struct state *s) {
    long r = sys(fchdir, s->slots[SLOT_ROOT]);
    if (r == 0) r = sys(pivot_root, ".", ".");
    if (r == 0) r = sys(umount2, ".", 2 /* MNT_DETACH */); /* the old root lies on top of the new one now */
    if (r == 0) r = sys(chdir, "/");
    return r;
}

/* For a root that is the initial ramfs, which cannot be pivoted: cover it. The old /proc and /sys must not be left. */
static long move_root(struct state *s) {
    long r = sys(fchdir, s->slots[SLOT_ROOT]);
    if (r == 0) r = sys(mount, ".", "/", 0, 0x2000 /* MS_MOVE */, 0);
    if (r == 0) r = sys(chroot, ".");
    if (r == 0) r = sys(chdir, "/");
    return r;
}

/* /dev/null as it is known to be: character device 1:3. */
static long open_null(void) {
    int fd = (int)open_at(AT_FDCWD, "/dev/null", O_RDWR | O_NOCTTY, 0);
    struct statx st;
    if (fd < 0) return fd;
    long r = sys(statx, fd, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    if (r < 0 || (st.stx_mode & S_IFMT) != S_IFCHR || st.stx_rdev_major != 1 || st.stx_rdev_minor != 3) {
        shut(fd);
        return r < 0 ? r : -ENODEV;
    }
    return fd;
}

static long show_console(struct state *s, int slave) {
    int tree = (int)sys(open_tree, slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int at = tree < 0 ? tree : (int)mount_point(s, "/dev/console", 0, 0);
    long r = at < 0 ? at : move_into(tree, at);
    shut(tree);
    shut(at);
    return r;
}

static long open_pty(struct state *s, const struct step *step) {
    ARGUMENTS(open_pty);
    int devpts = s->slots[SLOT_DEVPTS]; /* else: a container that was joined, or has the host's /dev */
    if (devpts < 0 && s->slots[SLOT_ROOT] >= 0) devpts = (int)resolve(s, "/dev/pts", O_PATH | O_DIRECTORY, 0);
    else if (devpts < 0) devpts = (int)open_at(AT_FDCWD, "/dev/pts", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
    int master = devpts < 0 ? devpts : (int)open_at(devpts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, 0), zero = 0;
    if (master < 0) return master;
    struct statx st;
    long r = sys(statx, master, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    if (r == 0 && (st.stx_rdev_major != 5 || st.stx_rdev_minor != 2)) r = -ENODEV;
    if (r == 0) r = sys(ioctl, master, TIOCSPTLCK, &zero);
    int slave = r < 0 ? (int)r : (int)sys(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) { shut(master); return slave; }
    struct { unsigned short rows, columns, x, y; } size = {(unsigned short)a->rows.n, (unsigned short)a->columns.n, 0, 0};
    if (a->rows.n || a->columns.n) r = sys(ioctl, master, TIOCSWINSZ, &size);
    if (r == 0 && a->uid.n) r = sys(fchown, slave, a->uid.n, -1);
    struct termios modes, ours;
    if (r == 0 && !a->socket.n && !s->detached && sys(ioctl, 1, TCGETS, &ours) < 0 && sys(ioctl, slave, TCGETS, &modes) == 0) {
        modes.c_oflag &= ~(uint)ONLCR;
        r = sys(ioctl, slave, TCSETS, &modes);
    }
    if (r == 0 && a->console.n) r = show_console(s, slave);
    if (r == 0) r = send_fd(a->socket.n ? s->slots[a->socket.n] : s->peer, master);
    for (int fd = 0; r >= 0 && fd < 3; fd++) r = sys(dup3, slave, fd, 0);
    if (r >= 0) r = sys(ioctl, 0, TIOCSCTTY, 0);
    shut(master);
    shut(slave);
    return r < 0 ? r : 0;
}

/* With `parent`, of the mount that holds the path: pivot_root wants it not shared. */
static long set_propagation(const struct step *step) {
    ARGUMENTS(mount_propagation);
    char path[4096];
    ulong n = length(a->path.s);
    if (n >= sizeof path) return -ENAMETOOLONG;
    memcpy(path, a->path.s, n + 1);
    for (;;) {
        long r = sys(mount, 0, path, 0, a->flags.n, 0);
        if (r != -EINVAL || !a->parent.n || n <= 1) return r;
        while (n > 1 && path[n - 1] != '/') n--;
        if (n > 1) n--;
        path[n] = 0;
    }
}

static long remount_at(struct state *s, const struct step *step) {
    ARGUMENTS(remount_at);
    int at = (int)resolve(s, a->target.s, O_PATH, 0);
    long r = at < 0 ? at : set_attributes(at, a->attributes.n, 0, 0, 0);
    shut(at);
    return r;
}

long take_root_step(struct state *s, const struct step *step) {
    const struct argument *a = step->arguments;
    long r;
    switch (step->op) {
    case OP_MOUNT_PROPAGATION: return set_propagation(step);
    case OP_OPEN_ROOT:
        r = open_null();
        if (r < 0) return r;
        s->slots[SLOT_NULL] = (int)r;
        r = open_at(AT_FDCWD, a[0].s, O_PATH | O_DIRECTORY, 0);
        if (r >= 0) s->slots[SLOT_ROOT] = (int)r;
        return r < 0 ? r : 0;
    case OP_OPEN_PROC:
        r = new_mount("proc", "proc", "", 0, "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (r >= 0) s->slots[SLOT_PROC] = (int)r;
        return r < 0 ? r : 0;
    case OP_MOUNT_AT: return mount_at(s, step);
    case OP_BIND_AT: return bind_at(s, step);
    case OP_HOST_NODE: return host_node(s, step);
    case OP_NODE_AT: return node_at(s, step);
    case OP_DROP_NODES: return drop_nodes(s, s->slots[a[0].n]);
    case OP_MKDIR_AT: return make_directory(s, a[0].s, (uint)a[1].n, (uint)a[2].n, (uint)a[3].n);
    case OP_MKNOD_AT: return mknod_at(s, step);
    case OP_SYMLINK_AT: return symlink_at(s, step);
    case OP_WRITE_AT: return write_at(s, step);
    case OP_MASK_AT: return mask_at(s, step);
    case OP_READONLY_AT: return readonly_at(s, step);
    case OP_OPEN_TREE: return take_tree(s, step);
    case OP_NEW_TREE: return new_tree(s, step);
    case OP_MOVE_TREE:
        return sys(move_mount, s->slots[a[0].n], "", AT_FDCWD, a[1].s, MOVE_MOUNT_F_EMPTY_PATH);
    case OP_REMOUNT_AT: return remount_at(s, step);
    case OP_PIVOT_ROOT: return let_go(s, pivot(s));
    case OP_MOVE_ROOT: return let_go(s, move_root(s));
    case OP_CHROOT:
        r = sys(fchdir, s->slots[SLOT_ROOT]);
        if (r == 0) r = sys(chroot, ".");
        return let_go(s, r == 0 ? sys(chdir, "/") : r);
    case OP_OPEN_PTY: return open_pty(s, step);
    }
    return -ENOSYS;
}
