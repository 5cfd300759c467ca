"""The seccomp policy of a container that asks for none: what is not listed here fails with EPERM.

It follows Docker's default profile, so that images meet the limits they know. Of a call that a capability guards, the
kernel's own check is not relied on: without the capability in the bounding set the call is not even begun.
Not in any list: add_key, keyctl, request_key (keyrings have no namespace); io_uring_* and userfaultfd (attack surface);
kexec_*, swapon, nfsservctl, pivot_root, _sysctl, uselib, ustat, sysfs, vm86 (the host's); move_pages, migrate_pages.

On purpose not as in Docker's profile:
- x32 is not listed: hardly a program uses it, and it has had holes of its own (CVE-2014-0038).
- socket(2)'s family is compared in the low half, as the kernel does. Docker compares 64 bits with "greater than
  AF_VSOCK", so that 1 << 32 | AF_VSOCK passes the filter and is AF_VSOCK to the kernel.

Known gap, as Docker's: socketcall(2) of 32-bit x86 and s390 makes sockets of any family, for BPF can't follow its
pointer. To deny it would leave the 32-bit programs of most distributions without sockets.

Source: github.com/moby/profiles, seccomp/default.json, of 2026; the man page of each call.
"""

from kist.plan._syscalls import FAMILIES
from kist.spec.runtime import Seccomp, SeccompArg, Syscall

ENOSYS = 38

_FILES = (
    "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2"
    " fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl"
    " fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64"
    " fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat inotify_add_watch"
    " inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat listmount listxattr"
    " listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat"
    " name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2"
    " read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile"
    " sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync"
    " sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes"
    " vmsplice write writev"
)
_WAITING = (
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd"
    " eventfd2 io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect"
    " poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4"
)
_MEMORY = (
    "brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap"
    " mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease"
    " remap_file_pages"
)
_PROCESSES = (
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake"
    " get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid"
    " gettid ioprio_get ioprio_set kill pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq"
    " rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait"
    " rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity"
    " sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64"
    " sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list set_thread_area"
    " set_tid_address setpgid setpriority setrlimit setsid sigaltstack sigprocmask sigreturn tgkill tkill ugetrlimit"
    " uretprobe vfork wait4 waitid waitpid"
)
_IDENTITY = (
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32"
    " getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"
    " setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid"
    " setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32"
)
_TIME = (  # adjtimex and its kin: to read; the kernel asks CAP_SYS_TIME of who changes
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64"
    " clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create"
    " timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create"
    " timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times"
)
_TALKING = (  # all of sockets but their making, and of IPC
    "accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr mq_notify mq_open"
    " mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd"
    " recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg"
    " sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair"
)
_SYSTEM = "getrandom riscv_hwprobe sysinfo uname"

_BY_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "swapcontext sync_file_range2",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

_BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr"
        " lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl"
        " quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
# Of the capabilities that a container has by default, those that this policy looks at.
_ASSEMBLED_FOR = frozenset({"CAP_SYS_CHROOT"})

_PTRACE = "process_vm_readv process_vm_writev ptrace"
# Before 4.8 a tracer could change a call after seccomp had looked at it (seccomp(2), NOTES).
_PTRACE_SINCE = (4, 8)

# AF_ALG (38) and AF_VSOCK (40) are left out of 0..47, as (mask, value) of the low half; 46 families exist in Linux 7.0.
_FAMILIES = ((~31, 0), (~3, 32), (~1, 36), (~0, 39), (~0, 41), (~1, 42), (~3, 44))
# PER_LINUX and PER_LINUX32, each with and without UNAME26; and the query that changes nothing. See personality(2).
_PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFF_FFFF)
_CLONE_NEW = 0x7E02_0000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET


def default_seccomp(capabilities: frozenset[str], *, native_arch: str, kernel: tuple[int, int]) -> Seccomp:
    """The policy for a container with these capabilities in its bounding set. Raises nothing."""
    names = " ".join(
        [_FILES, _WAITING, _MEMORY, _PROCESSES, _IDENTITY, _TIME, _TALKING, _SYSTEM, _BY_MACHINE.get(native_arch, "")]
        + [_PTRACE] * (kernel >= _PTRACE_SINCE)
        + [calls for capability, calls in _BY_CAPABILITY.items() if capability in capabilities]
    ).split()
    rules = [
        Syscall(names=tuple(names), action="SCMP_ACT_ALLOW"),
        *[_allow("socket", 0, "SCMP_CMP_MASKED_EQ", mask & 0xFFFF_FFFF, value) for mask, value in _FAMILIES],
        *[_allow("personality", 0, "SCMP_CMP_EQ", value) for value in _PERSONALITIES],
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        # clone3's flags lie behind a pointer; with ENOSYS the C libraries use clone instead.
        flags = 1 if native_arch == "s390x" else 0  # clone(2), "C library/kernel differences"
        rules.append(_allow("clone", flags, "SCMP_CMP_MASKED_EQ", _CLONE_NEW))
        rules.append(Syscall(names=("clone3",), action="SCMP_ACT_ERRNO", errno_ret=ENOSYS))
    return Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=1,
        architectures=tuple([abi for abi in FAMILIES.get(native_arch, ()) if abi != "SCMP_ARCH_X32"]),
        syscalls=tuple(rules),
    )


def assembled_policy(native_arch: str) -> Seccomp:
    """The policy whose program comes with kist: that of a container with the default capabilities."""
    return default_seccomp(_ASSEMBLED_FOR, native_arch=native_arch, kernel=_PTRACE_SINCE)


def assembled(seccomp: Seccomp, native_arch: str) -> bytes:
    """The program of `assembled_policy` if this is the policy, else b""."""
    if native_arch not in FAMILIES or seccomp != assembled_policy(native_arch):
        return b""
    name = f"kist.plan.seccomp_default_{native_arch}"
    program: str = __import__(name, fromlist=["PROGRAM"]).PROGRAM  # not importlib: `kist run` does without it
    return bytes.fromhex(program)


def _allow(name: str, index: int, op: str, value: int, value_two: int = 0) -> Syscall:
    arg = SeccompArg(index=index, value=value, value_two=value_two, op=op)
    return Syscall(names=(name,), action="SCMP_ACT_ALLOW", args=(arg,))
