/* Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit. */
#ifndef KIST_STEPS_H
#define KIST_STEPS_H
#define PLAN_TABLE 0x0ef1636c8315cdcdUL
#define MAX_ARGUMENTS 10
#define OP_COUNT 102

struct argument { unsigned long n; const char *s; };  /* a number or slot; else length or count, and bytes */

enum actor { ACTOR_HOST = 0, ACTOR_STAGE = 1, ACTOR_INIT = 2, ACTOR_COUNT };
enum slot { SLOT_NONE = 0, SLOT_ROOT = 1, SLOT_PROC = 2, SLOT_NULL = 3, SLOT_CGROUP = 4, SLOT_DEVPTS = 5, SLOT_IN_READ = 6, SLOT_IN_WRITE = 7, SLOT_OUT_READ = 8, SLOT_OUT_WRITE = 9, SLOT_ERR_READ = 10, SLOT_ERR_WRITE = 11, SLOT_PTY = 12, SLOT_TARGET = 13, SLOT_STDIN = 14, SLOT_STDOUT = 15, SLOT_STDERR = 16, SLOT_CONSOLE = 17, SLOT_LENT = 20, SLOT_EMPTY = 19, SLOT_START = 18, SLOT_COUNT = 1024 };
enum op {
    OP_MKDIR = 1,
    OP_REMOVE = 2,
    OP_WRITE_FILE = 3,
    OP_CREATE_FILE = 4,
    OP_OPEN = 5,
    OP_CONNECT = 6,
    OP_CGROUP_MAKE = 7,
    OP_CGROUP_JOIN = 8,
    OP_CGROUP_DEVICES = 9,
    OP_REPORT_FILE = 10,
    OP_WARN = 11,
    OP_CLONE = 12,
    OP_ADOPT = 13,
    OP_ID_MAP_HELPER = 14,
    OP_SIGNAL = 15,
    OP_AWAIT = 16,
    OP_HOOK = 17,
    OP_UNSHARE = 18,
    OP_SETNS = 19,
    OP_OPEN_PIDFD = 20,
    OP_USER_NAMESPACE = 21,
    OP_MOUNT_PROPAGATION = 22,
    OP_MOUNT = 23,
    OP_OPEN_ROOT = 24,
    OP_OPEN_PROC = 25,
    OP_MOUNT_AT = 26,
    OP_OPEN_TREE = 27,
    OP_BIND_AT = 28,
    OP_MKDIR_AT = 29,
    OP_MKNOD_AT = 30,
    OP_SYMLINK_AT = 31,
    OP_WRITE_AT = 32,
    OP_MASK_AT = 33,
    OP_READONLY_AT = 34,
    OP_REMOUNT_AT = 35,
    OP_PIVOT_ROOT = 36,
    OP_MOVE_ROOT = 37,
    OP_CHROOT = 38,
    OP_SETHOSTNAME = 39,
    OP_SETDOMAINNAME = 40,
    OP_WRITE_PROC = 41,
    OP_LINK_UP = 42,
    OP_PIPE = 43,
    OP_RELAY = 44,
    OP_OPEN_PTY = 45,
    OP_DUP = 46,
    OP_OWN_STDIO = 47,
    OP_NEW_KEYRING = 48,
    OP_SETSID = 49,
    OP_SEAL = 50,
    OP_DIE_WITH_PARENT = 51,
    OP_RLIMIT = 52,
    OP_UMASK = 53,
    OP_CHDIR = 54,
    OP_SCHEDULER = 55,
    OP_IO_PRIORITY = 56,
    OP_PERSONALITY = 57,
    OP_MEMORY_POLICY = 58,
    OP_CPU_AFFINITY = 59,
    OP_BOUNDING_SET = 60,
    OP_SET_GROUPS = 61,
    OP_SET_IDS = 62,
    OP_CAPABILITIES = 63,
    OP_NO_NEW_PRIVS = 64,
    OP_SECCOMP = 65,
    OP_SEND_LISTENER = 66,
    OP_FIND_COMMAND = 67,
    OP_AWAIT_START = 68,
    OP_EXEC = 69,
    OP_SUPERVISE = 70,
    OP_AWAIT_READY = 71,
    OP_LEAVE = 72,
    OP_OWN_NULL = 73,
    OP_MOVE_TREE = 74,
    OP_SEND_PIDFD = 75,
    OP_FIND_HOME = 76,
    OP_PREPARE_EXEC = 77,
    OP_HOST_NODE = 78,
    OP_NODE_AT = 79,
    OP_DROP_NODES = 80,
    OP_CGROUP_INHERIT = 81,
    OP_LISTEN = 82,
    OP_AWAIT_NOTIFICATION = 83,
    OP_OPEN_NAMESPACE = 84,
    OP_NETLINK = 85,
    OP_CGROUP_OWN = 86,
    OP_NEW_TREE = 90,
    OP_ATTEND = 91,
    OP_RESOLVE = 92,
    OP_RECORD_END = 93,
    OP_RELAY_LISTEN = 94,
    OP_RELAY_START = 95,
    OP_DISCARD = 96,
    OP_LEND = 97,
    OP_SEND_NAMESPACES = 98,
    OP_BESIDE = 99,
    OP_SHOW_LOG = 100,
    OP_PROXY = 101,
};
extern const char *const op_signature[OP_COUNT];
#define OP_SIGNATURES \
    [OP_MKDIR] = "snn", \
    [OP_REMOVE] = "s", \
    [OP_WRITE_FILE] = "ssn", \
    [OP_CREATE_FILE] = "ssnn", \
    [OP_OPEN] = "snf", \
    [OP_CONNECT] = "sf", \
    [OP_CGROUP_MAKE] = "sn", \
    [OP_CGROUP_JOIN] = "s", \
    [OP_CGROUP_DEVICES] = "sb", \
    [OP_REPORT_FILE] = "ss", \
    [OP_WARN] = "sss", \
    [OP_CLONE] = "nnf", \
    [OP_ADOPT] = "", \
    [OP_ID_MAP_HELPER] = "l", \
    [OP_SIGNAL] = "", \
    [OP_AWAIT] = "", \
    [OP_HOOK] = "sllsnsss", \
    [OP_UNSHARE] = "n", \
    [OP_SETNS] = "fnn", \
    [OP_OPEN_PIDFD] = "nf", \
    [OP_USER_NAMESPACE] = "ssf", \
    [OP_MOUNT_PROPAGATION] = "snn", \
    [OP_MOUNT] = "sssns", \
    [OP_OPEN_ROOT] = "s", \
    [OP_OPEN_PROC] = "", \
    [OP_MOUNT_AT] = "ssslnnfnnn", \
    [OP_OPEN_TREE] = "snffnnns", \
    [OP_BIND_AT] = "ssfnnnnnnn", \
    [OP_MKDIR_AT] = "snnn", \
    [OP_MKNOD_AT] = "snnnnn", \
    [OP_SYMLINK_AT] = "ssn", \
    [OP_WRITE_AT] = "sbnnn", \
    [OP_MASK_AT] = "sl", \
    [OP_READONLY_AT] = "s", \
    [OP_REMOUNT_AT] = "sn", \
    [OP_PIVOT_ROOT] = "", \
    [OP_MOVE_ROOT] = "", \
    [OP_CHROOT] = "", \
    [OP_SETHOSTNAME] = "s", \
    [OP_SETDOMAINNAME] = "s", \
    [OP_WRITE_PROC] = "ss", \
    [OP_LINK_UP] = "s", \
    [OP_PIPE] = "ff", \
    [OP_RELAY] = "ff", \
    [OP_OPEN_PTY] = "nnnnf", \
    [OP_DUP] = "fn", \
    [OP_OWN_STDIO] = "nnn", \
    [OP_NEW_KEYRING] = "s", \
    [OP_SETSID] = "", \
    [OP_SEAL] = "", \
    [OP_DIE_WITH_PARENT] = "", \
    [OP_RLIMIT] = "nnn", \
    [OP_UMASK] = "n", \
    [OP_CHDIR] = "s", \
    [OP_SCHEDULER] = "nnnnnnn", \
    [OP_IO_PRIORITY] = "n", \
    [OP_PERSONALITY] = "n", \
    [OP_MEMORY_POLICY] = "nb", \
    [OP_CPU_AFFINITY] = "b", \
    [OP_BOUNDING_SET] = "n", \
    [OP_SET_GROUPS] = "b", \
    [OP_SET_IDS] = "nn", \
    [OP_CAPABILITIES] = "nnnn", \
    [OP_NO_NEW_PRIVS] = "", \
    [OP_SECCOMP] = "bnn", \
    [OP_SEND_LISTENER] = "ss", \
    [OP_FIND_COMMAND] = "ss", \
    [OP_AWAIT_START] = "f", \
    [OP_EXEC] = "lls", \
    [OP_SUPERVISE] = "nssn", \
    [OP_AWAIT_READY] = "n", \
    [OP_LEAVE] = "", \
    [OP_OWN_NULL] = "", \
    [OP_MOVE_TREE] = "fs", \
    [OP_SEND_PIDFD] = "s", \
    [OP_FIND_HOME] = "n", \
    [OP_PREPARE_EXEC] = "nn", \
    [OP_HOST_NODE] = "fsnnnnn", \
    [OP_NODE_AT] = "fssn", \
    [OP_DROP_NODES] = "f", \
    [OP_CGROUP_INHERIT] = "sss", \
    [OP_LISTEN] = "ssf", \
    [OP_AWAIT_NOTIFICATION] = "ff", \
    [OP_OPEN_NAMESPACE] = "sf", \
    [OP_NETLINK] = "nblfsfnn", \
    [OP_CGROUP_OWN] = "sn", \
    [OP_NEW_TREE] = "sslnffnn", \
    [OP_ATTEND] = "snnssllnsn", \
    [OP_RESOLVE] = "fnsssl", \
    [OP_RECORD_END] = "", \
    [OP_RELAY_LISTEN] = "nnnn", \
    [OP_RELAY_START] = "snlll", \
    [OP_DISCARD] = "", \
    [OP_LEND] = "n", \
    [OP_SEND_NAMESPACES] = "", \
    [OP_BESIDE] = "l", \
    [OP_SHOW_LOG] = "snnnnssn", \
    [OP_PROXY] = "l", \


struct mkdir { struct argument path, mode, keep; };
struct remove { struct argument path; };
struct write_file { struct argument path, data, optional; };
struct create_file { struct argument path, data, mode, keep; };
struct open { struct argument path, flags, slot; };
struct connect { struct argument path, slot; };
struct cgroup_make { struct argument path, keep; };
struct cgroup_join { struct argument path; };
struct cgroup_devices { struct argument path, program; };
struct report_file { struct argument label, path; };
struct warn { struct argument path, key, text; };
struct clone { struct argument child, flags, cgroup; };
struct id_map_helper { struct argument argv; };
struct hook { struct argument path, argv, env, state, timeout_ms, warning, stdout, stderr; };
struct unshare { struct argument flags; };
struct setns { struct argument target, flags, attempt; };
struct open_pidfd { struct argument pid, slot; };
struct user_namespace { struct argument uid_map, gid_map, slot; };
struct mount_propagation { struct argument path, flags, parent; };
struct mount { struct argument fstype, source, target, flags, data; };
struct open_root { struct argument path; };
struct mount_at { struct argument fstype, source, target, options, attributes, propagation, slot, copy_up, keep_mode, strict; };
struct open_tree { struct argument source, recursive, slot, id_map, id_map_recursive, nofollow, inside, below; };
struct bind_at { struct argument source, target, tree, recursive, attributes, clear, all_attributes, all_clear, propagation, links; };
struct mkdir_at { struct argument target, mode, uid, gid; };
struct mknod_at { struct argument target, mode, major, minor, uid, gid; };
struct symlink_at { struct argument content, target, keep; };
struct write_at { struct argument target, data, mode, uid, gid; };
struct mask_at { struct argument target, options; };
struct readonly_at { struct argument target; };
struct remount_at { struct argument target, attributes; };
struct sethostname { struct argument name; };
struct setdomainname { struct argument name; };
struct write_proc { struct argument path, data; };
struct link_up { struct argument name; };
struct pipe { struct argument read, write; };
struct relay { struct argument source, target; };
struct open_pty { struct argument uid, rows, columns, console, socket; };
struct dup { struct argument slot, fd; };
struct own_stdio { struct argument uid, gid, pipes; };
struct new_keyring { struct argument name; };
struct rlimit { struct argument resource, soft, hard; };
struct umask { struct argument mask; };
struct chdir { struct argument path; };
struct scheduler { struct argument policy, flags, nice, priority, runtime_ns, deadline_ns, period_ns; };
struct io_priority { struct argument value; };
struct personality { struct argument domain; };
struct memory_policy { struct argument mode, nodes; };
struct cpu_affinity { struct argument cpus; };
struct bounding_set { struct argument keep; };
struct set_groups { struct argument groups; };
struct set_ids { struct argument uid, gid; };
struct capabilities { struct argument effective, permitted, inheritable, ambient; };
struct seccomp { struct argument program, flags, notify; };
struct send_listener { struct argument path, state; };
struct find_command { struct argument name, search; };
struct await_start { struct argument slot; };
struct exec { struct argument argv, env, search; };
struct supervise { struct argument timeout_ms, timeout_text, freezer, reaper; };
struct await_ready { struct argument running; };
struct move_tree { struct argument tree, target; };
struct send_pidfd { struct argument path; };
struct find_home { struct argument uid; };
struct prepare_exec { struct argument reaper, close_from; };
struct host_node { struct argument slot, name, mode, major, minor, uid, gid; };
struct node_at { struct argument slot, name, target, attributes; };
struct drop_nodes { struct argument slot; };
struct cgroup_inherit { struct argument path, file, nothing; };
struct listen { struct argument directory, name, slot; };
struct await_notification { struct argument source, target; };
struct open_namespace { struct argument kind, slot; };
struct netlink { struct argument protocol, messages, commands, namespace, link, target, target_at, at_end; };
struct cgroup_own { struct argument path, uid; };
struct new_tree { struct argument fstype, source, options, attributes, slot, id_map, lender, lender_inode; };
struct attend { struct argument logs, log_bytes, log_count, socket, ended, after, health, health_ms, name, detached; };
struct resolve { struct argument namespace, port, names, networks, run, servers; };
struct relay_listen { struct argument port, name_port, tells, namespaces; };
struct relay_start { struct argument log, log_bytes, rules, servers, ports; };
struct lend { struct argument socket; };
struct beside { struct argument argv; };
struct show_log { struct argument prefix, lock, number, offset, timestamps, since, until, follow; };
struct proxy { struct argument ports; };
#endif
