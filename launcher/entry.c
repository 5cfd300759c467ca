/* Where a program begins that has no libc, and what the compiler calls unasked. */
#include "sys.h"

void *memcpy(void *to, const void *from, ulong n) {
    typedef ulong __attribute__((may_alias, aligned(1))) word;
    char *t = to;
    const char *f = from;
    for (; n >= 8; n -= 8, t += 8, f += 8) *(word *)t = *(const word *)f;
    while (n--) *t++ = *f++;
    return to;
}
void *memset(void *to, int c, ulong n) {
    char *t = to;
    while (n--) *t++ = (char)c;
    return to;
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call start\n");
#else
__asm__(".globl _start\n_start:\n mov x29,#0\n mov x30,#0\n mov x0,sp\n bl start\n");
#endif
