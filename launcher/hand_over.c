/* What both of kist's commands end with: becoming Python. */
#include "front.h"
#include <linux/auxvec.h>

#define X_OK 1

static char script[4096];

/* The interpreter is what its installer wrote into it. Nothing of the environment is believed, and without `site` it is
 * there in half the time: the script finds kist by itself. Names are bytes to the kernel, which UTF-8 mode (PEP 540) gives
 * back as they were; and the locale is not asked. Returns where it cannot be started. */
static void become_script(ulong argc, char **argv, char **environment) {
    static char first[512], *words[1024];
    char *python;
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
}

/* Whether this process may do more than who called it, and so must not go where he says: getauxval(3), AT_SECURE. */
static int is_privileged(char **environment) {
    while (*environment) environment++;
    for (const ulong *word = (const ulong *)(environment + 1); *word != AT_NULL; word += 2)
        if (*word == AT_SECURE) return word[1] != 0;
    return 1;
}

/* podman calls its runtime without PATH, to kill and to delete. */
static void become_one_of_path(const char *name, ulong argc, char **argv, char **environment) {
    const char *path = "/usr/local/bin:/usr/bin:/bin", *set = 0;
    if (!is_privileged(environment))
        for (char **variable = environment; *variable && !set; variable++)
            if (starts_with(*variable, "PATH=")) path = set = *variable + 5;
    while (read_place(&path, name, script, sizeof script))
        if (sys(faccessat, AT_FDCWD, script, X_OK) == 0) become_script(argc, argv, environment);
}

/* In /tmp anybody may put a file beside a program of somebody else's. (Without the sticky bit he may replace the program.) */
static int is_for_anybody(const char *directory) {
    struct statx st;
    return sys(statx, AT_FDCWD, *directory ? directory : "/", 0, STATX_MODE, &st) != 0 || (st.stx_mode & 01002) == 01002;
}

/* `script` becomes the one beside this program. Returns whether there is none: another error is left to its execution. */
static int none_beside(void) {
    static const char suffix[] = "-python";
    struct statx st;
    long n = sys(readlinkat, AT_FDCWD, "/proc/self/exe", script, sizeof script - sizeof suffix), slash = n;
    if (n <= 0 || n == sizeof script - sizeof suffix) return 1; /* no /proc, or a path that has no room */
    while (slash && script[slash] != '/') slash--;
    script[slash] = 0;
    int ignored = is_for_anybody(script);
    script[slash] = '/';
    memcpy(script + n, suffix, sizeof suffix);
    return ignored || sys(statx, AT_FDCWD, script, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &st) == -ENOENT;
}

static void say(const char *text) { sys(write, 2, text, length(text)); }

/* Become Python: the script beside this program, or, for a program that was copied alone (podman's tests do that with a
 * runtime), the one that PATH names, as execvp(3) finds it, but not in relative places. */
void hand_over(const char *name, ulong argc, char **argv, char **environment) {
    const char *why = "it lies beside this program, but cannot be started", *next = "install kist again";
    if (none_beside()) {
        become_one_of_path(name, argc, argv, environment);
        why = "there is none beside this program (in a directory like /tmp none counts), and none in PATH that can be started";
        next = "install kist, or add to PATH the directory that it is installed in";
    } else become_script(argc, argv, environment);
    say("kist: cannot start its Python part, ");
    say(name);
    say("\n  why:  ");
    say(why);
    say("\n  next: ");
    say(next);
    say("\n");
    for (;;) sys(exit_group, 1);
}
