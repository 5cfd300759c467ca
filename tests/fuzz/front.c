/* Any bytes as what kist-oci's front reads: nothing outside of them is read, and what is accepted is what it says.
 *
 * With clang's libFuzzer a coverage-guided target; with REPLAY it makes inputs itself, by changing good ones, so that the
 * tests need only gcc. Always built with sanitizers. Each input is a copy of exactly its size: a byte too far is seen. */
#include "../../launcher/front.h"

void *malloc(ulong size);
void free(void *memory);

static void demand(int holds) { if (!holds) __builtin_trap(); }
static char *copy_of(const unsigned char *data, ulong size) {
    char *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    return copy;
}
static int within(const char *string, const char *text, ulong size) {
    return string >= text && string + length(string) < text + size;
}

static int ordinary(const char *text, ulong size) {
    static struct ordinary found;
    if (!read_ordinary(&found, text, size)) return 0;
    demand(within(found.verbs, text, size) && within(found.freezer, text, size));
    for (int i = 0; i < 3; i++) demand(within(found.state[i], text, size));
    demand(found.cgroup_count <= MAX_CGROUPS);
    for (uint i = 0; i < found.cgroup_count; i++) demand(within(found.cgroups[i], text, size) && *found.cgroups[i] == '/');
    for (enum verb v = START; v <= DELETE; v++) demand(takes(&found, v) == 0 || takes(&found, v) == 1);
    return 1;
}

static int stat_line(const char *text, ulong size) {
    ulong ticks;
    return read_start(text, size, &ticks);
}

static int interpreter(char *text, ulong size) {
    char *path;
    if (!read_interpreter(text, size, &path)) return 0;
    demand(within(path, text, size) && *path == '/');
    return 1;
}

/* Words that each end with a 0, as execve(2) lays them out. */
static int command(char *text, ulong size) {
    static char *words[64];
    struct call call;
    uint count = 0;
    if (!size || text[size - 1]) return 0;
    for (ulong at = 0; at < size && count < 63; at += length(text + at) + 1) words[count++] = text + at;
    words[count] = 0;
    if (!read_call(&call, words)) return 0;
    demand(call.verb > OTHER_VERB && call.verb <= DELETE && call.signal >= 0 && call.signal <= 64);
    demand(within(call.id, text, size) && length(call.id) < 256 && !find(call.id, '/') && !same(call.id, ".."));
    demand(!call.root || (within(call.root, text, size) && *call.root == '/'));
    return 1;
}

/* Each place is an absolute directory of PATH, and a name. */
static int places(const char *text, ulong size) {
    char place[64];
    int found = 0;
    if (!size || text[size - 1]) return 0;
    for (const char *path = text; read_place(&path, "name", place, sizeof place); found = 1) {
        ulong n = length(place), directory = n - 5;
        demand(n < sizeof place && *place == '/' && same(place + directory, "/name"));
        demand(path ? within(path, text, size) && path[-1] == ':' : 1);
        place[directory] = 0;
        demand(!find(place, ':'));
    }
    return found;
}

/* The first byte chooses the reader. */
static int examine(const unsigned char *data, ulong size) {
    if (!size) return 0;
    char *text = copy_of(data + 1, size - 1);
    int accepted = 0;
    switch (*data % 7) {
    case 0: accepted = ordinary(text, size - 1); break;
    case 1: accepted = read_pid(text, size - 1) > 0; break;
    case 2: accepted = stat_line(text, size - 1); break;
    case 3: accepted = interpreter(text, size - 1); break;
    case 4: accepted = command(text, size - 1); break;
    case 5: accepted = size > 1 && !text[size - 2] && read_heeds(text, SIGTERM); break;
    case 6: accepted = places(text, size - 1); break;
    }
    free(text);
    return accepted;
}

#include "replay.h"

#ifdef REPLAY
static const struct seed SEEDS[] = {
    GOOD("\0kist-oci ordinary 1\0state start kill delete\0/sys/f/freezer.state\0{\"pid\": \0,\"status\": \"\0\"}\n\0/sys/f/a\0/sys/b\0"),
    GOOD("\1{\"pid\":4711}"),
    GOOD("\0022 (a) b) S 1 22 22 0 -1 4194560 95 0 0 0 0 0 0 0 20 0 1 0 955725 2\n"),
    GOOD("\3#!/usr/bin/python3.11\n# kist-oci's Python part\n"),
    GOOD("\4--root\0/run/r\0--log\0/l\0--log-format=json\0--systemd-cgroup\0delete\0--force\0some-id\0"),
    GOOD("\5Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000014002\n\0"),
    GOOD("\6/usr/local/bin::relative:/usr/bin:/\0"),
    GOOD("\4--root=/run/r\0kill\0some-id\0SIGKILL\0"),
};

int main(int argc, char **argv) {
    return replay(SEEDS, sizeof SEEDS / sizeof *SEEDS, argc > 1 ? number(argv[1]) : 0);
}
#endif
