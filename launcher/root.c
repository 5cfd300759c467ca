/* Steps that build the container's root. Every path is resolved inside the root by openat2 and used as an fd. */
#include "launcher.h"

#define ARGUMENTS(kind) const struct kind *a = (const struct kind *)step->arguments

static long resolve(struct state *s, const char *path, ulong flags, ulong mode) {
    while (*path == '/') path++;
    struct open_how how = {flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    return sys(openat2, s->slots[SLOT_ROOT], *path ? path : ".", &how, sizeof how);
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
            if (r < 0 && r != -EEXIST) { shut(dir); return r; }
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

/* The mount point at `path`, made when missing. */
static long mount_point(struct state *s, const char *path, int directory) {
    long fd = resolve(s, path, O_PATH, 0);
    if (fd != -ENOENT) return fd;
    long r;
    if (directory) {
        r = make_directory(s, path, 0755, 0, 0);
    } else {
        const char *last;
        int dir = (int)parent_of(s, path, &last);
        if (dir < 0) return dir;
        r = open_at(dir, last, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
        if (r >= 0) { shut((int)r); r = 0; }
        shut(dir);
    }
    return r < 0 ? r : resolve(s, path, O_PATH, 0);
}

static long move_into(int tree, int at) {
    return sys(move_mount, tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A detached mount of a new file system; options are "key" or "key=value". */
static long new_mount(const char *type, const char *source, const char *option, ulong count, uint attributes) {
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
    if (r >= 0) r = sys(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (r >= 0) r = sys(fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    shut(fs);
    return r;
}

static long set_attributes(int tree, ulong set, ulong clear, ulong propagation, int recursive) {
    struct mount_attr attr = {set, clear, propagation, 0};
    if (set & MOUNT_ATTR__ATIME) attr.attr_clr |= MOUNT_ATTR__ATIME;
    return sys(mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof attr);
}

static long mount_at(struct state *s, const struct step *step) {
    ARGUMENTS(mount_at);
    int at = (int)mount_point(s, a->target.s, 1);
    if (at < 0) { s->argument = 2; return at; }
    int tree = (int)new_mount(a->fstype.s, a->source.s, a->options.s, a->options.n, (uint)a->attributes.n);
    if (tree < 0) { shut(at); return tree; }
    long r = move_into(tree, at);
    shut(at);
    if (a->slot.n) s->slots[a->slot.n] = tree; else shut(tree);
    return r;
}

static long bind_at(struct state *s, const struct step *step) {
    ARGUMENTS(bind_at);
    int tree = (int)sys(open_tree, AT_FDCWD, a->source.s,
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (a->recursive.n ? AT_RECURSIVE : 0));
    if (tree < 0) return tree;
    long r = 0;
    if (a->attributes.n || a->clear.n || a->propagation.n)
        r = set_attributes(tree, a->attributes.n, a->clear.n, a->propagation.n & ~0x4000UL, a->recursive.n != 0);
    int at = r < 0 ? (int)r : (int)mount_point(s, a->target.s, a->directory.n != 0);
    if (at >= 0) r = move_into(tree, at); else { s->argument = 1; r = at; }
    shut(at);
    shut(tree);
    return r;
}

static long mknod_at(struct state *s, const struct step *step) {
    ARGUMENTS(mknod_at);
    const char *last;
    int dir = (int)parent_of(s, a->target.s, &last);
    if (dir < 0) return dir;
    uint device = ((uint)a->major.n & 0xfff) << 8 | ((uint)a->minor.n & 0xff) | ((uint)a->minor.n & 0xfff00) << 12;
    sys(unlinkat, dir, last, 0);
    long r = sys(mknodat, dir, last, a->mode.n, device);
    if (r == 0) r = sys(fchmodat, dir, last, a->mode.n & 07777);
    if (r == 0 && (a->uid.n || a->gid.n)) r = sys(fchownat, dir, last, a->uid.n, a->gid.n, AT_SYMLINK_NOFOLLOW);
    shut(dir);
    return r;
}

static long symlink_at(struct state *s, const struct step *step) {
    ARGUMENTS(symlink_at);
    const char *last;
    int dir = (int)parent_of(s, a->target.s, &last);
    if (dir < 0) return dir;
    sys(unlinkat, dir, last, 0);
    long r = sys(symlinkat, a->content.s, dir, last);
    shut(dir);
    return r;
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
    if (r >= 0) r = sys(fchmod, fd, a->mode.n & 07777);
    shut(fd);
    return r < 0 ? r : 0;
}

static long mask_at(struct state *s, const struct step *step) {
    ARGUMENTS(mask_at);
    int at = (int)resolve(s, a->target.s, O_PATH, 0);
    if (at == -ENOENT || at == -ENOTDIR) return 0;
    if (at < 0) return at;
    struct statx st;
    long r = sys(statx, at, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    int tree = -1;
    if (r == 0 && (st.stx_mode & S_IFMT) == S_IFDIR) {
        static const char options[] = "size=0k\0nr_inodes=1";
        tree = (int)new_mount("tmpfs", "tmpfs", options, 2, MOUNT_ATTR_RDONLY);
    } else if (r == 0) {
        tree = (int)sys(open_tree, s->slots[SLOT_NULL], "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    }
    if (r == 0) r = tree < 0 ? tree : move_into(tree, at);
    shut(tree);
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

static long pivot(struct state *s) {
    long r = sys(fchdir, s->slots[SLOT_ROOT]);
    if (r == 0) r = sys(pivot_root, ".", ".");
    if (r == 0) r = sys(umount2, ".", 2 /* MNT_DETACH */); /* the old root lies on top of the new one now */
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

static long open_pty(struct state *s, const struct step *step) {
    ARGUMENTS(open_pty);
    int master = (int)open_at(s->slots[SLOT_DEVPTS], "ptmx", O_RDWR | O_NOCTTY, 0), zero = 0;
    if (master < 0) return master;
    struct statx st;
    long r = sys(statx, master, "", AT_EMPTY_PATH, STATX_TYPE, &st);
    if (r == 0 && (st.stx_rdev_major != 5 || st.stx_rdev_minor != 2)) r = -ENODEV;
    if (r == 0) r = sys(ioctl, master, TIOCSPTLCK, &zero);
    int slave = r < 0 ? (int)r : (int)sys(ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) { shut(master); return slave; }
    if (a->uid.n || a->gid.n) r = sys(fchown, slave, a->uid.n, a->gid.n);
    int tree = (int)sys(open_tree, slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int at = tree < 0 ? tree : (int)mount_point(s, "/dev/console", 0);
    if (r == 0) r = at < 0 ? at : move_into(tree, at);
    shut(tree);
    shut(at);
    if (r == 0) r = send_fd(s->peer, master);
    for (int fd = 0; r >= 0 && fd < 3; fd++) r = sys(dup3, slave, fd, 0);
    if (r >= 0) r = sys(ioctl, 0, TIOCSCTTY, 0);
    shut(master);
    shut(slave);
    return r < 0 ? r : 0;
}

long take_root_step(struct state *s, const struct step *step) {
    const struct argument *a = step->arguments;
    long r;
    switch (step->op) {
    case OP_OPEN_ROOT:
        r = open_null();
        if (r < 0) return r;
        s->slots[SLOT_NULL] = (int)r;
        r = open_at(AT_FDCWD, a[0].s, O_PATH | O_DIRECTORY, 0);
        if (r >= 0) s->slots[SLOT_ROOT] = (int)r;
        return r < 0 ? r : 0;
    case OP_OPEN_PROC:
        r = new_mount("proc", "proc", "", 0, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (r >= 0) s->slots[SLOT_PROC] = (int)r;
        return r < 0 ? r : 0;
    case OP_MOUNT_AT: return mount_at(s, step);
    case OP_BIND_AT: return bind_at(s, step);
    case OP_MKDIR_AT: return make_directory(s, a[0].s, (uint)a[1].n, (uint)a[2].n, (uint)a[3].n);
    case OP_MKNOD_AT: return mknod_at(s, step);
    case OP_SYMLINK_AT: return symlink_at(s, step);
    case OP_WRITE_AT: return write_at(s, step);
    case OP_MASK_AT: return mask_at(s, step);
    case OP_READONLY_AT: return readonly_at(s, step);
    case OP_READONLY_ROOT: {
        int root = (int)resolve(s, "/", O_PATH | O_DIRECTORY, 0);
        r = root < 0 ? root : set_attributes(root, MOUNT_ATTR_RDONLY, 0, 0, 0);
        shut(root);
        return r;
    }
    case OP_PIVOT_ROOT: return pivot(s);
    case OP_CHROOT:
        r = sys(fchdir, s->slots[SLOT_ROOT]);
        if (r == 0) r = sys(chroot, ".");
        return r;
    case OP_OPEN_PTY: return open_pty(s, step);
    }
    return -ENOSYS;
}
