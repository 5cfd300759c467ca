"""`kist generate systemd`."""

import os
import sys

from kist.errors import Conflict
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_POLICIES = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")

COMMAND = Command(
    name="generate systemd",
    usage=("[FLAG...] CONTAINER",),
    summary="Print a systemd unit that starts a container at boot",
    groups=(
        (
            "Flags",
            (
                Flag("restart-policy", "one", "POLICY", f"systemd's: {', '.join(_POLICIES)}", words.choice(*_POLICIES)),
                Flag("stop-timeout", "one", "SECONDS", "Time to stop before it is killed (its own, or 10)",
                     words.number(0, 1 << 31), alias="time"),
                Flag("files", "bool", "", "Write kist-NAME.service here instead, and print its path", words.boolean),
            ),
        ),
    ),
    examples=(
        ("kist generate systemd web > /etc/systemd/system/kist-web.service", "then systemctl enable --now kist-web"),
        ("kist generate systemd web > ~/.config/systemd/user/kist-web.service", "the same for an ordinary user"),
    ),
    least=1,
    most=1,
)  # fmt: skip
_PLACES = ("KIST_DATA_DIR", "KIST_RUN_DIR", "XDG_DATA_HOME", "PYTHONPATH")


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.containers import Containers
    from kist.engine.units import unit

    container = Containers().find(parsed.arguments[0])
    container.path  # noqa: B018  # raises for one that is not kept
    request = container.config.request
    if request.restart.policy != "no":
        print(f"kist: note: systemd restarts it instead of its own policy {request.restart.policy}", file=sys.stderr)
    timeout = words.number(0, 1 << 31)("--stop-timeout", parsed.last("stop-timeout", "-")) if (
        "stop-timeout" in parsed.given) else request.stop_timeout_s  # fmt: skip
    restart = parsed.last("restart-policy")
    if restart:
        words.choice(*_POLICIES)("--restart-policy", restart)
    places = {key: os.environ[key] for key in _PLACES if key in os.environ}
    text = unit(container, (sys.executable, "-m", "kist.faces.cli"), places, restart=restart,
                timeout_s=10 if timeout is None or timeout < 0 else timeout, user=os.geteuid() != 0)  # fmt: skip
    if not words.boolean("--files", parsed.last("files", "false")):
        print(text, end="")
        return 0
    path = os.path.abspath(f"kist-{container.name}.service")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as e:
        raise Conflict(f"{path} exists", next="remove it first") from e
    print(path)
    return 0
