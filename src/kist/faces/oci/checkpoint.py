"""`kist-oci checkpoint`, and what its options and those of `restore` have in common."""

from __future__ import annotations

import os

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.oci.create import absolute, flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.runtime.checkpoint import CriuRequest
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMON = (
    Flag("image-path", "one", "DIR", "criu's image files (checkpoint)", None),
    Flag("work-path", "one", "DIR", "criu's log and other files (the image files' directory)", None),
    Flag("tcp-established", "bool", "", "Open TCP connections are allowed", words.boolean),
    Flag("ext-unix-sk", "bool", "", "Unix sockets to outside are allowed", words.boolean),
    Flag("shell-job", "bool", "", "A terminal of outside is allowed", words.boolean),
    Flag("file-locks", "bool", "", "File locks are allowed", words.boolean),
    Flag("manage-cgroups-mode", "one", "MODE", "soft, full, strict or ignore", None),
    Flag("empty-ns", "many", "TYPE", "network: make the namespace and nothing in it; always so", None),
    Flag("auto-dedup", "bool", "", "Memory that was saved once is not saved again", words.boolean),
    Flag("lazy-pages", "bool", "", "Memory is brought when it is asked for", words.boolean),
    Flag("lsm-profile", "one", "TYPE:NAME", "Security profile to bring it back with", None),
    Flag("lsm-mount-context", "one", "CONTEXT", "Security context for mounts that are brought back", None),
)
COMMAND = Command(
    name="checkpoint",
    usage=("[OPTION...] ID",),
    summary="Save a running container with criu, and remove it",
    groups=(
        (
            "Options",
            (
                *COMMON,
                Flag("parent-path", "one", "DIR", "An earlier pre-dump, relative to --image-path", None),
                Flag("leave-running", "bool", "", "It goes on running", words.boolean),
                Flag("tcp-skip-in-flight", "bool", "", "TCP connections under way are left out", words.boolean),
                Flag("link-remap", "bool", "", "Files without a name may get one again", words.boolean),
                Flag("status-fd", "one", "FD", "Gets a 0 byte when lazy pages are ready", None),
                Flag("page-server", "one", "ADDRESS:PORT", "Where memory is sent to", None),
                Flag("pre-dump", "bool", "", "Memory only, while it runs on", words.boolean),
            ),
        ),
    ),
    least=1,
    most=1,
)


def criu_request(parsed: Parsed) -> CriuRequest:
    """Raises InvalidInput."""
    from kist.engine.runtime.checkpoint import CriuRequest

    for name in parsed.given.get("empty-ns", ()):
        if name != "network":
            raise InvalidInput(f"namespace {name!r} is not supported", path="--empty-ns", next="network")
    return CriuRequest(
        image_path=absolute(parsed, "image-path") or os.path.abspath("checkpoint"),
        work_path=absolute(parsed, "work-path"),
        parent_path=parsed.last("parent-path"),
        leave_running=flag(parsed, "leave-running"),
        tcp_established=flag(parsed, "tcp-established"),
        tcp_skip_in_flight=flag(parsed, "tcp-skip-in-flight"),
        link_remap=flag(parsed, "link-remap"),
        ext_unix_sk=flag(parsed, "ext-unix-sk"),
        shell_job=flag(parsed, "shell-job"),
        file_locks=flag(parsed, "file-locks"),
        auto_dedup=flag(parsed, "auto-dedup"),
        lazy_pages=flag(parsed, "lazy-pages"),
        pre_dump=flag(parsed, "pre-dump"),
        status_fd=words.number(-1, 1 << 20)("--status-fd", parsed.last("status-fd", "-1")) or 0,
        page_server=_page_server(parsed.last("page-server")),
        manage_cgroups_mode=parsed.last("manage-cgroups-mode"),
        lsm_profile=parsed.last("lsm-profile"),
        lsm_mount_context=parsed.last("lsm-mount-context"),
    )


def _page_server(text: str) -> tuple[str, int]:
    """`[::1]:27` too."""
    if not text:
        return "", 0
    address, colon, port = text.rpartition(":")
    if not (colon and address and port):
        raise InvalidInput("Use --page-server ADDRESS:PORT to specify page server", path="--page-server")
    return address.removeprefix("[").removesuffix("]"), words.number(1, 65535)("--page-server", port) or 0


def warn_of_criu(session: Session) -> None:
    """As runc does."""
    if session.criu != "criu":
        session.log.warn("--criu ignored (criu binary from $PATH is used); do not use")
    if os.geteuid():
        session.log.warn("checkpoint is untested with rootless containers")


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.checkpoint import checkpoint
    from kist.engine.runtime.container import Containers

    warn_of_criu(session)
    containers = Containers(session.root)
    checkpoint(containers, containers.load(parsed.arguments[0]), criu_request(parsed), session.log.warn)
    return 0
