"""`kist generate systemd`: a unit that starts a container at boot and looks after it.

The unit runs `kist start -a`: the supervisor is then systemd's own child, whose exit status is the container's, and
stopping the unit is `kist stop`. Source: systemd.service(5), systemd.kill(5).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kist.engine.containers import Container

_SPARE_S = 20  # systemd waits this much longer than kist does
_RESTART = {"no": "no", "on-failure": "on-failure", "always": "always", "unless-stopped": "always"}


def unit(
    container: Container, kist: Sequence[str], environ: Mapping[str, str], *, restart: str = "", timeout_s: int = 10,
    user: bool = False,
) -> str:  # fmt: skip
    """`kist`: the command line that is kist. `restart`: systemd's word; "": what the container's policy means."""
    request = container.config.request
    program = " ".join(quoted(word) for word in kist)
    target = quoted(container.id)
    places = [f"Environment={quoted(f'{key}={value}')}" for key, value in environ.items()]
    network = (
        () if request.network == "none" or user else ("Wants=network-online.target", "After=network-online.target")
    )
    most = request.restart.most
    return "\n".join((
        "# Made by kist generate systemd.",
        "[Unit]",
        f"Description=Container {container.name.replace('%', '%%')} of kist",
        *network,
        *((f"StartLimitBurst={most}",) if most else ()),
        "",
        "[Service]",
        "Type=exec",
        *places,
        f"ExecStart={program} start --attach {target}",
        f"ExecStop={program} stop --time {timeout_s} {target}",
        f"TimeoutStopSec={timeout_s + _SPARE_S}",
        "KillMode=mixed",
        f"Restart={restart or _RESTART[request.restart.policy]}",
        "SuccessExitStatus=143",
        "Delegate=yes",
        "",
        "[Install]",
        f"WantedBy={'default' if user else 'multi-user'}.target",
        "",
    ))  # fmt: skip


def quoted(word: str) -> str:
    """As systemd reads it: `%` and `$` mean something there, and blanks end a word."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(char.isspace() or char in "\"'\\;" for char in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
