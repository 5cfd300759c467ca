/* kist's command: Python, without what `#!python` alone would look for. */
#include "front.h"

__attribute__((noreturn, used)) void start(ulong *stack) {
    ulong argc = *stack;
    char **argv = (char **)(stack + 1);
    hand_over("kist-python", argc, argv, argv + argc + 1);
}
