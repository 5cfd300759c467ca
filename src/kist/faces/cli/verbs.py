"""The verbs by name. Only the module of the verb that is asked for is imported."""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

# Verb -> what it does. Its module in this package has the same name, unless that is a word of Python's, and holds
# `COMMAND` and `main(argv) -> exit status`.
VERBS = {
    "run": "Run a command in a new container",
    "explain": "Show the kernel steps that run would take",
    "ns": "Compare a process's namespaces with the host's",
    "doctor": "Say what this host allows, what is missing and how to fix it",
    "import": "Make an image from a root file system tar",
    "images": "List the images",
    "rmi": "Remove images",
    "version": "Print versions",
    "help": "Explain a verb",
}
_MODULES = {"import": "import_"}
# Docker's verbs that kist does not have yet.
# fmt: off
_LATER = frozenset((
    "attach", "build", "commit", "compose", "container", "cp", "create", "exec", "export", "image", "info", "inspect",
    "kill", "load", "login", "logs", "network", "pause", "ps", "pull", "push", "restart", "rm", "save", "start",
    "stop", "tag", "top", "unpause", "volume", "wait",
))
# fmt: on


def verb_module(verb: str) -> ModuleType:
    """Raises InvalidInput for an unknown verb."""
    if verb in _LATER:
        raise Unsupported(f"kist {verb}: comes later", why="kist runs and explains containers so far")
    if verb not in VERBS:
        from kist.plan.words import nearest, show

        close = nearest(verb, VERBS)
        next_ = f"did you mean 'kist {close}'?" if close else "'kist --help' lists them"
        raise InvalidInput(f"{show(verb)} is not a verb of kist", next=next_, code="unknown-verb")
    # Not importlib: `kist run` does without it.
    module: ModuleType = __import__(f"kist.faces.cli.{_MODULES.get(verb, verb)}", fromlist=["COMMAND"])
    return module


def verb_main(verb: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = verb_module(verb).main
    return main
