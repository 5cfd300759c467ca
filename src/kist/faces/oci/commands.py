"""The commands of `kist-oci`, a module each, with `COMMAND` and `main(session, parsed) -> exit status`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = {
    "create": "Create a container",
    "start": "Execute the user defined process in a created container",
    "run": "Create and run a container",
    "state": "Output the state of a container",
    "kill": "Send a signal to a container's init process",
    "delete": "Delete any resources held by the container",
    "exec": "Execute new process inside the container",
    "list": "List containers started with the given root",
    "ps": "Display the processes running inside a container",
    "pause": "Suspend all processes inside the container",
    "resume": "Resume all processes that have been previously paused",
    "update": "Update container resource constraints",
    "events": "Display container events such as OOM notifications and resource usage",
    "spec": "Create a new specification file",
    "features": "Show the enabled features",
    "checkpoint": "Checkpoint a running container",
    "restore": "Restore a container from a previous checkpoint",
}
_MODULES = {"list": "list_", "exec": "exec_", "run": "create", "resume": "pause"}

GLOBAL = Command(
    name="",
    usage=("[GLOBAL OPTIONS] COMMAND [ARGUMENT...]",),
    summary="An OCI runtime with runc's command line",
    groups=(
        (
            "Global options",
            (
                Flag("root", "one", "DIR", "Directory for the state of containers", None),
                Flag("log", "one", "FILE", "Where errors are logged, too", None),
                Flag("log-format", "one", "FORMAT", "text or json", None),
                Flag("debug", "bool", "", "Log each step of the plan", words.boolean),
                Flag(
                    "systemd-cgroup", "bool", "", "Have systemd make the cgroup; cgroupsPath is slice:prefix:name", None
                ),
                Flag("cgroup-manager", "one", "NAME", "As crun's: cgroupfs, systemd or disabled", None),
                Flag("rootless", "one", "WHEN", "Accepted: kist finds out by itself", None),
                Flag("criu", "one", "PATH", "Accepted and not used: criu is looked up in PATH", None),
                Flag("version", "bool", "", "Print versions", None, "v"),
            ),
        ),
    ),
    command_follows=True,
)


def command_module(name: str) -> ModuleType:
    """Raises InvalidInput for an unknown command."""
    if name not in COMMANDS:
        raise InvalidInput(f"No help topic for {name!r}", next="kist-oci --help", code="unknown-verb")
    module: ModuleType = __import__(f"kist.faces.oci.{_MODULES.get(name, name)}", fromlist=["COMMAND"])
    return module
