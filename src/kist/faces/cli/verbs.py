"""The verbs by name. Only the module of the verb that is asked for is imported."""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from kist.faces.cli.command import Command

# Verb -> what it does. Its module in this package has the same name, unless that is a word of Python's, and holds
# `COMMAND` and `main(argv) -> exit status`.
VERBS = {
    "run": "Run a command in a new container",
    "create": "Make a container without starting it",
    "start": "Start containers",
    "stop": "Ask containers to end, and kill those that do not",
    "restart": "Stop containers and start them again",
    "kill": "Send a signal to containers",
    "rm": "Remove containers",
    "ps": "List the containers",
    "attach": "Connect a terminal to a container that runs",
    "exec": "Run one more command in a container",
    "logs": "Show what a container printed",
    "healthcheck run": "Check a container's health now",
    "pause": "Let containers stand still",
    "unpause": "Let paused containers go on",
    "wait": "Wait until containers have ended",
    "rename": "Give a container another name",
    "inspect": "Tell all about containers, images and networks, as JSON",
    "container inspect": "Tell all about containers, as JSON",
    "port": "Say which ports of the host's lead to a container",
    "stats": "Show what containers use, again and again",
    "top": "Show a container's processes, or all containers live",
    "update": "Change the limits of containers",
    "events": "Say what happens to containers",
    "why": "Say why a container has ended",
    "generate systemd": "Print a systemd unit that starts a container at boot",
    "completion": "Print a script that lets a shell complete what you type",
    "info": "Say what there is, and where it lies",
    "cp": "Copy files between a container and the host",
    "diff": "List the files that a container has changed",
    "export": "Pack a container's files as a tar archive",
    "commit": "Make an image of what a container has changed",
    "container prune": "Remove the containers that do not run",
    "explain": "Show the kernel steps that run would take",
    "ns": "Compare a process's namespaces with the host's",
    "doctor": "Say what this host allows, what is missing and how to fix it",
    "pull": "Fetch an image from a registry",
    "push": "Send an image to a registry",
    "login": "Keep a user name and a password for a registry",
    "logout": "Forget them",
    "import": "Make an image from a root file system tar",
    "load": "Load images that were saved, by docker and podman too",
    "save": "Save images as an archive",
    "images": "List the images",
    "rmi": "Remove images",
    "tag": "Give an image another name",
    "search-local": "Find images by what they are called, say of themselves or hold",
    "image inspect": "Tell all about images, as JSON",
    "image history": "List the steps that made an image",
    "image tree": "Show an image's layers as a picture of their sizes",
    "image diff": "List the files that differ between two images",
    "image mount": "Show an image's files in a directory",
    "image unmount": "Take such a directory away",
    "image prune": "Remove images that nothing uses",
    "store check": "Verify all that is stored",
    "store rebuild": "Make the store's books anew from what is there",
    "store gc": "Delete what no image needs",
    "network create": "Make a network that containers may be in",
    "network ls": "List the networks",
    "network inspect": "Tell all about networks, as JSON",
    "network connect": "Put a container into another network",
    "network disconnect": "Take a container out of a network",
    "network graph": "Draw who is connected to whom",
    "network reload": "Make their firewall rules anew",
    "network rm": "Remove networks",
    "network prune": "Remove the networks that no container is in",
    "volume create": "Make a volume that containers may share",
    "volume ls": "List the volumes",
    "volume inspect": "Tell all about volumes, as JSON",
    "volume rm": "Remove volumes",
    "volume prune": "Remove volumes that no container has",
    "secret create": "Keep a secret for containers",
    "secret ls": "List the secrets",
    "secret inspect": "Tell about secrets, but not what they are",
    "secret rm": "Remove secrets",
    "system prune": "Remove all that nothing uses",
    "system df": "Say what takes how much of the disk",
    "version": "Print versions",
    "help": "Explain a verb",
}
# Verbs of two words begin with one of these.
GROUPS = {
    "container": "Manage containers: the same verbs as without this word",
    "healthcheck": "Check the health of containers",
    "generate": "Write files for other programs",
    "image": "Look into images and manage them",
    "network": "Connect containers",
    "volume": "What outlives containers",
    "secret": "What only containers may see",
    "store": "Look after what is stored",
    "system": "Look at the whole",
}
_MODULES = {"exec": "exec_", "import": "import_", "search-local": "search_local"}
# Docker's other spellings.
_ALIASES = {
    "history": "image history", "image import": "import", "image load": "load", "image save": "save",
    "image ls": "images", "image list": "images",
    "network list": "network ls", "network remove": "network rm",
    "image umount": "image unmount",
    "volume list": "volume ls", "volume remove": "volume rm",
    "secret list": "secret ls", "secret remove": "secret rm",
    **{f"container {verb}": verb for verb in ("run", "create", "start", "stop", "restart", "kill", "rm", "pause",
                                              "unpause", "wait", "rename", "exec", "logs", "attach", "port", "stats",
                                              "top", "update", "cp", "diff", "export",
                                              "commit")},
    "system info": "info", "system events": "events",
    "container ls": "ps", "container list": "ps", "container ps": "ps", "container remove": "rm",
    "image pull": "pull", "image push": "push", "image rm": "rmi", "image remove": "rmi", "image tag": "tag",
}  # fmt: skip
# Docker's verbs that kist does not have yet.
# fmt: off
_LATER = frozenset((
    "build", "compose",
))
# fmt: on


def split_verb(argv: list[str]) -> tuple[str, list[str]]:
    """The verb that a command line begins with, of one word or two, and the rest."""
    verb, *rest = argv
    if verb in GROUPS and rest and not rest[0].startswith("-"):
        verb = f"{verb} {rest.pop(0)}"
    return _ALIASES.get(verb, verb), rest


def verb_command(verb: str) -> Command:
    """What a verb, or a group of verbs, accepts. Raises InvalidInput for an unknown one."""
    if verb not in GROUPS:
        command: Command = verb_module(verb).COMMAND
        return command
    from kist.faces.cli.command import Command as Made

    inside = {name.partition(" ")[2]: text for name, text in VERBS.items() if name.startswith(f"{verb} ")}
    inside |= {name.partition(" ")[2]: f"kist {to}" for name, to in _ALIASES.items() if name.startswith(f"{verb} ")}
    return Made(name=verb, usage=("VERB [ARGUMENT...]",), summary=GROUPS[verb], notes=(("Verbs", inside),))


def verb_module(verb: str) -> ModuleType:
    """Raises InvalidInput for an unknown verb."""
    if verb in _LATER:
        raise Unsupported(
            f"kist {verb}: comes later",
            why="this version makes images of archives and of containers only",
            next="kist load takes what docker build or buildah made; kist import and kist commit",
        )
    if verb not in VERBS:
        from kist.plan.words import nearest, show

        close = nearest(verb, (*VERBS, *_ALIASES))
        next_ = f"did you mean 'kist {close}'?" if close else "'kist --help' lists them"
        raise InvalidInput(f"{show(verb)} is not a verb of kist", next=next_, code="unknown-verb")
    # Not importlib: `kist run` does without it.
    name = _MODULES.get(verb, verb.replace(" ", "_"))
    module: ModuleType = __import__(f"kist.faces.cli.{name}", fromlist=["COMMAND"])
    return module


def verb_main(verb: str) -> Callable[[list[str]], int]:
    if verb in GROUPS:
        from kist.faces.cli.parse import HelpAsked

        raise HelpAsked(verb_command(verb))
    main: Callable[[list[str]], int] = verb_module(verb).main
    return main
