"""`kist ps`."""

from __future__ import annotations

from kist.engine.containers import Container, Containers
from kist.faces.cli.columns import ago, print_rows
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

HEADS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT",
    "Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES",
}  # fmt: skip

COMMAND = Command(
    name="ps",
    usage=("[FLAG...]",),
    summary="List the containers that run, or all",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "Also those that do not run", words.boolean, "a"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.ID}} {{.Status}}'", words.plain),
                Flag("no-trunc", "bool", "", "Whole ids and commands", words.boolean),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
    examples=(("kist ps -aq", "the ids of all"),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    on = {name: words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("all", "no-trunc", "quiet")}
    found = sorted(Containers().all(), key=lambda c: -c.config.created_ns)
    shown = [c for c in found if on["all"] or c.status in ("running", "paused", "restarting")]
    if on["quiet"]:
        print("".join([f"{c.id if on['no-trunc'] else c.id[:12]}\n" for c in shown]), end="")
        return 0
    rows = [row(c, whole=on["no-trunc"]) for c in shown]
    columns = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
    print_rows(rows, HEADS, columns, parsed.last("format"))
    return 0


def row(container: Container, *, whole: bool) -> dict[str, object]:
    """What `ps` shows of one."""
    import time

    config, request = container.config, container.config.request
    command = '"' + " ".join((*(request.entrypoint or ()), *request.command)) + '"'
    if not whole and len(command) > 22:
        command = command[:20] + '…"'
    created = config.created_ns / 1e9
    return {
        "ID": config.id if whole else config.id[:12], "Image": request.image or request.rootfs, "Command": command,
        "RunningFor": ago(created), "State": container.status, "Status": status_words(container), "Names": config.name,
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created)), "Ports": "",
    }  # fmt: skip


def status_words(container: Container) -> str:
    """`Up 3 minutes (Paused)`, `Exited (137) 2 hours ago`, in docker's words."""
    status, started, ended = container.status, container.started, container.ended
    if status in ("running", "paused"):
        since = started.at_ns if started else container.config.created_ns
        up = f"Up {ago(since / 1e9).removesuffix(' ago')}"
        return up + (" (Paused)" if status == "paused" else _health_words(container))
    if status == "restarting":
        return f"Restarting ({ended.code if ended else 0}) {ago(ended.ended_ns / 1e9) if ended else ''}".rstrip()
    if status == "exited" and ended:
        return f"Exited ({ended.code})" + (f" {ago(ended.ended_ns / 1e9)}" if ended.ended_ns else "")
    return status.capitalize()


def _health_words(container: Container) -> str:
    if not container.config.request.health_cmd:
        return ""
    from kist.engine.health import STARTING, health_of

    health = health_of(container)
    return "" if not health else " (health: starting)" if health.status == STARTING else f" ({health.status})"
