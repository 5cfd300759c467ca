/* Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit. */
#ifndef KIST_STEPS_H
#define KIST_STEPS_H
#define PLAN_TABLE 0x26ff8a91a4db20f0UL
#define MAX_ARGUMENTS 7
#define OP_COUNT 53

struct argument { unsigned long n; const char *s; };  /* a number or slot; else length or count, and bytes */

enum actor { ACTOR_HOST = 0, ACTOR_INIT = 1, ACTOR_COUNT };
enum slot { SLOT_NONE = 0, SLOT_ROOT = 1, SLOT_PROC = 2, SLOT_NULL = 3, SLOT_CGROUP = 4, SLOT_DEVPTS = 5, SLOT_IN_READ = 6, SLOT_IN_WRITE = 7, SLOT_OUT_READ = 8, SLOT_OUT_WRITE = 9, SLOT_ERR_READ = 10, SLOT_ERR_WRITE = 11, SLOT_PTY = 12, SLOT_TARGET = 13, SLOT_STDIN = 14, SLOT_STDOUT = 15, SLOT_STDERR = 16, SLOT_COUNT };
enum op {
    OP_MKDIR = 1,
    OP_CGROUP_MAKE = 2,
    OP_WRITE_FILE = 3,
    OP_CGROUP_JOIN = 4,
    OP_CGROUP_DEVICES = 5,
    OP_OPEN_DIR = 6,
    OP_CLONE = 7,
    OP_ID_MAP_HELPER = 8,
    OP_SIGNAL = 9,
    OP_AWAIT = 10,
    OP_PIPE = 11,
    OP_RELAY = 12,
    OP_SUPERVISE = 13,
    OP_REPORT_FILE = 14,
    OP_UNSHARE = 15,
    OP_SETNS = 16,
    OP_OPEN_PIDFD = 17,
    OP_MOUNT_PROPAGATION = 18,
    OP_MOUNT = 19,
    OP_OPEN_ROOT = 20,
    OP_OPEN_PROC = 21,
    OP_MOUNT_AT = 22,
    OP_BIND_AT = 23,
    OP_MKDIR_AT = 24,
    OP_MKNOD_AT = 25,
    OP_SYMLINK_AT = 26,
    OP_WRITE_AT = 27,
    OP_MASK_AT = 28,
    OP_READONLY_AT = 29,
    OP_READONLY_ROOT = 30,
    OP_PIVOT_ROOT = 31,
    OP_CHROOT = 32,
    OP_SETHOSTNAME = 33,
    OP_SETDOMAINNAME = 34,
    OP_SYSCTL = 35,
    OP_LINK_UP = 36,
    OP_NEW_KEYRING = 37,
    OP_SETSID = 38,
    OP_OPEN_PTY = 39,
    OP_DUP = 40,
    OP_RLIMIT = 41,
    OP_UMASK = 42,
    OP_CHDIR = 43,
    OP_BOUNDING_SET = 44,
    OP_SET_GROUPS = 45,
    OP_SET_IDS = 46,
    OP_CAPABILITIES = 47,
    OP_NO_NEW_PRIVS = 48,
    OP_SECCOMP = 49,
    OP_SEAL = 50,
    OP_DIE_WITH_PARENT = 51,
    OP_EXEC = 52,
};
static const char *const op_signature[OP_COUNT] = {
    [OP_MKDIR] = "snn",
    [OP_CGROUP_MAKE] = "s",
    [OP_WRITE_FILE] = "ss",
    [OP_CGROUP_JOIN] = "s",
    [OP_CGROUP_DEVICES] = "sb",
    [OP_OPEN_DIR] = "sf",
    [OP_CLONE] = "nf",
    [OP_ID_MAP_HELPER] = "l",
    [OP_SIGNAL] = "",
    [OP_AWAIT] = "",
    [OP_PIPE] = "ff",
    [OP_RELAY] = "ff",
    [OP_SUPERVISE] = "ns",
    [OP_REPORT_FILE] = "ss",
    [OP_UNSHARE] = "n",
    [OP_SETNS] = "fn",
    [OP_OPEN_PIDFD] = "nf",
    [OP_MOUNT_PROPAGATION] = "sn",
    [OP_MOUNT] = "sssns",
    [OP_OPEN_ROOT] = "s",
    [OP_OPEN_PROC] = "",
    [OP_MOUNT_AT] = "ssslnf",
    [OP_BIND_AT] = "ssnnnnn",
    [OP_MKDIR_AT] = "snnn",
    [OP_MKNOD_AT] = "snnnnn",
    [OP_SYMLINK_AT] = "ss",
    [OP_WRITE_AT] = "sbn",
    [OP_MASK_AT] = "s",
    [OP_READONLY_AT] = "s",
    [OP_READONLY_ROOT] = "",
    [OP_PIVOT_ROOT] = "",
    [OP_CHROOT] = "",
    [OP_SETHOSTNAME] = "s",
    [OP_SETDOMAINNAME] = "s",
    [OP_SYSCTL] = "ss",
    [OP_LINK_UP] = "s",
    [OP_NEW_KEYRING] = "s",
    [OP_SETSID] = "",
    [OP_OPEN_PTY] = "nn",
    [OP_DUP] = "fnnn",
    [OP_RLIMIT] = "nnn",
    [OP_UMASK] = "n",
    [OP_CHDIR] = "s",
    [OP_BOUNDING_SET] = "n",
    [OP_SET_GROUPS] = "b",
    [OP_SET_IDS] = "nn",
    [OP_CAPABILITIES] = "nnnn",
    [OP_NO_NEW_PRIVS] = "",
    [OP_SECCOMP] = "bn",
    [OP_SEAL] = "",
    [OP_DIE_WITH_PARENT] = "",
    [OP_EXEC] = "llsnn",
};

struct mkdir { struct argument path, mode, keep; };
struct cgroup_make { struct argument path; };
struct write_file { struct argument path, data; };
struct cgroup_join { struct argument path; };
struct cgroup_devices { struct argument path, program; };
struct open_dir { struct argument path, slot; };
struct clone { struct argument flags, cgroup; };
struct id_map_helper { struct argument argv; };
struct pipe { struct argument read, write; };
struct relay { struct argument source, target; };
struct supervise { struct argument timeout_ms, freezer; };
struct report_file { struct argument label, path; };
struct unshare { struct argument flags; };
struct setns { struct argument target, flags; };
struct open_pidfd { struct argument pid, slot; };
struct mount_propagation { struct argument path, flags; };
struct mount { struct argument fstype, source, target, flags, data; };
struct open_root { struct argument path; };
struct mount_at { struct argument fstype, source, target, options, attributes, slot; };
struct bind_at { struct argument source, target, recursive, attributes, clear, propagation, directory; };
struct mkdir_at { struct argument target, mode, uid, gid; };
struct mknod_at { struct argument target, mode, major, minor, uid, gid; };
struct symlink_at { struct argument content, target; };
struct write_at { struct argument target, data, mode; };
struct mask_at { struct argument target; };
struct readonly_at { struct argument target; };
struct sethostname { struct argument name; };
struct setdomainname { struct argument name; };
struct sysctl { struct argument key, value; };
struct link_up { struct argument name; };
struct new_keyring { struct argument name; };
struct open_pty { struct argument uid, gid; };
struct dup { struct argument slot, fd, uid, gid; };
struct rlimit { struct argument resource, soft, hard; };
struct umask { struct argument mask; };
struct chdir { struct argument path; };
struct bounding_set { struct argument keep; };
struct set_groups { struct argument groups; };
struct set_ids { struct argument uid, gid; };
struct capabilities { struct argument effective, permitted, inheritable, ambient; };
struct seccomp { struct argument program, flags; };
struct exec { struct argument argv, env, search, reaper, close_from; };
#endif
