/* The kernel without a libc: raw system calls that return -errno, and the few string functions we need. */
#ifndef KIST_SYS_H
#define KIST_SYS_H
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/unistd.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/signal.h>
#include <linux/socket.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <linux/types.h>
#include <linux/wait.h>


typedef unsigned long ulong;
typedef unsigned int uint;

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
    long r;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return r;
}
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "kist's launcher knows x86_64 and aarch64"
#endif

#define SYS_(n, a, b, c, d, e, f, ...) sys6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define sys(...) SYS_(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

static inline ulong length(const char *s) { ulong n = 0; while (s[n]) n++; return n; }
static inline int same(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return *a == *b; }
static inline int starts_with(const char *s, const char *with) { while (*with && *s == *with) s++, with++; return !*with; }
static inline ulong decimal(char *to, ulong number) { /* its digits; returns how many, and ends with a 0 */
    char digits[20];
    ulong count = 0, n = 0;
    do digits[count++] = (char)('0' + number % 10); while (number /= 10);
    while (count) to[n++] = digits[--count];
    to[n] = 0;
    return n;
}
static inline const char *find(const char *s, char c) { for (; *s; s++) if (*s == c) return s; return 0; }
/* Where the next newline is; `end`: there is none. Eight bytes at a time: a byte of `w` that is 0 borrows. */
static inline const char *find_newline(const char *at, const char *end) {
    typedef ulong __attribute__((may_alias, aligned(1))) word;
    for (; end - at >= 8; at += 8) {
        ulong w = *(const word *)at ^ 0x0a0a0a0a0a0a0a0aUL, zeros = (w - 0x0101010101010101UL) & ~w & 0x8080808080808080UL;
        if (zeros) return at + (__builtin_ctzl(zeros) >> 3);
    }
    while (at < end && *at != '\n') at++;
    return at;
}
void *memcpy(void *to, const void *from, ulong n);
void *memset(void *to, int c, ulong n);

static inline long open_at(int dir, const char *path, int flags, int mode) {
    return sys(openat, dir, path, flags | O_CLOEXEC, mode);
}
static inline void shut(int fd) { if (fd >= 0) sys(close, fd); }
static inline ulong now_ns(void) {
    struct __kernel_timespec t;
    sys(clock_gettime, 1, &t);
    return (ulong)t.tv_sec * 1000000000UL + (ulong)t.tv_nsec;
}
static inline void nap_ms(ulong ms) {
    struct __kernel_timespec t = {(long)(ms / 1000), (long)(ms % 1000) * 1000000};
    sys(nanosleep, &t, 0);
}
#define MSG_NOSIGNAL 0x4000
struct rlimit64 { ulong soft, hard; };
#define SIGBIT(n) (1UL << ((n) - 1))
#endif
