/* What both of kist's commands end with. */
#include "front.h"

/* Become Python: the script beside this program, by the interpreter that its installer wrote into it. Nothing of the
 * environment is believed, and without `site` it is there in half the time: the script finds kist by itself. Names are
 * bytes to the kernel, which UTF-8 mode (PEP 540) gives back as they were; and the locale is not asked. */
void hand_over(ulong argc, char **argv, char **environment) {
    static char script[4096], first[512], *words[1024];
    static const char suffix[] = "-python";
    char *python;
    long n = sys(readlinkat, AT_FDCWD, "/proc/self/exe", script, sizeof script - sizeof suffix);
    if (n < 0 || n == sizeof script - sizeof suffix) n = 0;
    memcpy(script + n, suffix, sizeof suffix);
    int fd = (int)open_at(AT_FDCWD, script, O_RDONLY, 0);
    long size = fd < 0 ? fd : sys(read, fd, first, sizeof first);
    shut(fd);
    if (size > 0 && argc < 1000 && read_interpreter(first, (ulong)size, &python)) {
        char *begin[] = {python, "-I", "-S", "-X", "utf8", script};
        memcpy(words, begin, sizeof begin);
        for (ulong i = 1; i < argc; i++) words[5 + i] = argv[i];
        sys(execve, python, words, environment);
    }
    sys(execve, script, argv, environment);
    static const char failed[] = "kist: its Python part, with -python after the name, cannot be started; install kist again\n";
    sys(write, 2, failed, sizeof failed - 1);
    for (;;) sys(exit_group, 1);
}
