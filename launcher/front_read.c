/* What kist-oci's front reads: no system calls here, so that it can be fuzzed (tests/fuzz/front.c). */
#include "front.h"

static const char *const VERBS[] = {"", "start", "state", "kill", "delete"};
static const char *const SIGNALS[] = {
    "HUP",  "INT",  "QUIT", "ILL",    "TRAP", "ABRT", "BUS",  "FPE",  "KILL", "USR1",   "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP",   "TTIN", "TTOU", "URG",  "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",  "PWR",  "SYS"};

static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* Up to nine digits, no needless 0, and nothing else; -1 for another word. */
static int number(const char *text, ulong size) {
    int n = 0;
    if (!size || size > 9 || (*text == '0' && size > 1)) return -1;
    for (ulong i = 0; i < size; i++) {
        if (!is_digit(text[i])) return -1;
        n = n * 10 + text[i] - '0';
    }
    return n;
}

int read_signal(const char *word) {
    int n = number(word, length(word));
    if (n >= 0) return n <= 64 ? n : -1;
    if (starts_with(word, "SIG")) word += 3;
    for (uint i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++)
        if (same(word, SIGNALS[i])) return (int)i + 1;
    return -1;
}

static int is_id(const char *id) {
    ulong n = length(id);
    if (!n || n > 255 || same(id, ".") || same(id, "..")) return 0;
    for (; *id; id++) {
        char c = *id;
        if (!(is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || find("_+-.", c))) return 0;
    }
    return 1;
}

/* The value of option `name` at *word, as `--name VALUE` or `--name=VALUE`; *word moves to its last word. */
static const char *option(char ***word, const char *name) {
    const char *text = **word;
    if (!starts_with(text, name)) return 0;
    text += length(name);
    if (*text == '=') return text + 1;
    return *text || !(*word)[1] ? 0 : *++*word;
}

/* Options that say only how errors are told, which is not done here. Returns 0 for others. */
static int is_about_errors(char ***word) {
    const char *value = option(word, "--log");
    if (value) return *value == '/';
    value = option(word, "--log-format");
    if (value) return same(value, "json") || same(value, "text");
    return same(**word, "--systemd-cgroup") || same(**word, "--debug");
}

int read_call(struct call *call, char **words) {
    char **word = words;
    memset(call, 0, sizeof *call);
    for (; *word && **word == '-'; word++) {
        const char *root = option(&word, "--root");
        if (root && *root == '/') call->root = root;
        else if (root || !is_about_errors(&word)) return 0;
    }
    for (enum verb v = START; *word && v <= DELETE; v++)
        if (same(*word, VERBS[v])) call->verb = v;
    if (!call->verb) return 0;
    const char *signal = 0;
    for (word++; *word; word++) {
        if (call->verb == DELETE && (same(*word, "--force") || same(*word, "-f"))) call->force = 1;
        else if (**word == '-') return 0;
        else if (!call->id) call->id = *word;
        else if (call->verb == KILL && !signal) signal = *word;
        else return 0;
    }
    call->signal = signal ? read_signal(signal) : SIGTERM;
    return call->id && is_id(call->id) && call->signal >= 0;
}

/* Strings, each ended by a 0: what this file is, verbs, freezer, three parts of the state, and the cgroups. */
int read_ordinary(struct ordinary *found, const char *text, ulong size) {
    uint count = 0;
    memset(found, 0, sizeof *found);
    if (!size || text[size - 1]) return 0;
    for (ulong at = 0; at < size; at += length(text + at) + 1, count++) {
        const char *string = text + at;
        if (count == 0 && !same(string, "kist-oci ordinary 1")) return 0;
        if (count == 1) found->verbs = string;
        if (count == 2) found->freezer = string;
        if (count >= 3 && count < 6) found->state[count - 3] = string;
        if (count < 6) continue;
        if (*string != '/' || found->cgroup_count == MAX_CGROUPS) return 0;
        found->cgroups[found->cgroup_count++] = string;
    }
    return count >= 6;
}

int takes(const struct ordinary *found, enum verb verb) {
    ulong size = length(VERBS[verb]);
    for (const char *word = found->verbs; word; word = find(word, ' ')) {
        if (*word == ' ') word++;
        if (starts_with(word, VERBS[verb]) && (word[size] == ' ' || !word[size])) return 1;
    }
    return 0;
}

int read_pid(const char *text, ulong size) {
    static const char before[] = "{\"pid\":";
    ulong from = sizeof before - 1;
    if (size <= from + 1 || text[size - 1] != '}') return 0;
    for (ulong i = 0; i < from; i++)
        if (text[i] != before[i]) return 0;
    int pid = number(text + from, size - from - 1);
    return pid > 0 ? pid : 0;
}

/* Fields 3, the state, and 22, after the command's name in brackets, which may hold anything. See proc_pid_stat(5). */
int read_start(const char *text, ulong size, ulong *ticks) {
    ulong at = size, field = 2, value = 0;
    while (at && text[at - 1] != ')') at--;
    if (!at || at + 2 >= size || text[at] != ' ' || text[at + 1] == 'Z' || text[at + 1] == 'X') return 0;
    for (; at < size && field < 22; at++) field += text[at] == ' ';
    ulong first = at;
    for (; at < size && is_digit(text[at]) && at - first < 18; at++) value = value * 10 + (ulong)(text[at] - '0');
    *ticks = value;
    return field == 22 && at > first && at < size && text[at] == ' ';
}

#define ALL_BLOCKED 0xfffffffffffbfeffUL /* the launcher, which has not become the command yet: what is pending then is lost */

int read_heeds(const char *text, int signal) {
    static const char *const SETS[] = {"SigBlk:\t", "SigIgn:\t", "SigCgt:\t"};
    ulong found = 0;
    for (const char *line = text; line; line = find(line, '\n'), line = line ? line + 1 : 0) {
        if (starts_with(line, "State:\tR")) return 0; /* a shell between its trap and its wait would handle it too soon */
        for (uint i = 0; i < sizeof SETS / sizeof *SETS; i++) {
            ulong set = 0;
            if (!starts_with(line, SETS[i])) continue;
            for (const char *c = line + length(SETS[i]); *c > ' '; c++) set = set << 4 | ((ulong)*c + (*c > '9' ? 9 : 0)) % 16;
            if (set != ALL_BLOCKED) found |= set;
        }
    }
    return found >> (signal - 1) & 1;
}

/* `#!/path/to/python` and the line's end: as pip writes it. Its other form, for long or strange paths, is not for us. */
int read_interpreter(char *text, ulong size, char **path) {
    ulong end = 0, name = 0;
    while (end < size && text[end] != '\n') end++;
    if (end == size || end < 4 || text[0] != '#' || text[1] != '!' || text[2] != '/') return 0;
    for (ulong i = 2; i < end; i++) {
        if (text[i] <= ' ' || text[i] == 127) return 0;
        if (text[i] == '/') name = i + 1;
    }
    text[end] = 0;
    *path = text + 2;
    return starts_with(text + name, "python");
}

/* Relative directories are left out, and empty ones, which stand for the working directory. */
int read_place(const char **path, const char *name, char *to, ulong room) {
    while (*path) {
        const char *from = *path, *colon = find(from, ':');
        ulong size = colon ? (ulong)(colon - from) : length(from), rest = length(name) + 1;
        *path = colon ? colon + 1 : 0;
        if (*from != '/' || size + 1 + rest > room) continue;
        memcpy(to, from, size);
        to[size] = '/';
        memcpy(to + size + 1, name, rest);
        return 1;
    }
    return 0;
}
