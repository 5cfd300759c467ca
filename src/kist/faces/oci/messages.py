"""How the runtime tells of errors: runc's log, as text or JSON, to standard error or a file; and words that callers
look for (podman and docker choose their exit status by "executable file not found" and the like)."""

from __future__ import annotations

from kist.errors import InvalidInput, KistError
from kist.plan import words
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.engine.runtime.container import Containers
    from kist.faces.cli.parse import Parsed


def program() -> str:
    """The name of the command, of which this is the Python part."""
    import sys

    name = os.path.basename(sys.argv[0]).removesuffix("-python")
    return "kist-oci" if name.startswith("__main__") else name


class Log(Value):
    """`path` "": standard error."""

    path: str = ""
    format: str = "text"
    verbose: bool = False

    def error(self, text: str) -> None:
        self._write("error", text)
        if self.path:
            _say(f"{text}\n")

    def plain(self, text: str) -> None:
        """As the command itself would say it."""
        _say(f"{text}\n")

    def warn(self, text: str) -> None:
        self._write("warning", text)

    def debug(self, text: str) -> None:
        self._write("debug", text)

    def _write(self, level: str, text: str) -> None:
        from time import time_ns

        from kist.codec import dumps
        from kist.engine.runtime.container import rfc3339

        now = rfc3339(time_ns() // 10**9 * 10**9).replace(".000000000", "")
        if self.format == "json":
            line = dumps({"level": level, "msg": text, "time": now})
        else:
            line = f"time={dumps(now)} level={level} msg={dumps(text)}"
        if not self.path:
            _say(f"{line}\n")
            return
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            return  # the error itself goes to standard error, too
        try:
            os.write(fd, f"{line}\n".encode())
        finally:
            os.close(fd)


def _say(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody to be told


class Session(Value):
    """The global options."""

    log: Log
    root: str = ""
    root_given: bool = False
    cgroup_manager: str = "cgroupfs"
    criu: str = "criu"
    command: str = ""

    @classmethod
    def from_flags(cls, parsed: Parsed) -> Session:
        """Raises InvalidInput for a log format that nobody knows."""
        format = parsed.last("log-format", "text")
        if format not in ("text", "json"):
            raise InvalidInput(f"invalid log-format: {format}", path="--log-format", next="text or json")
        default = "systemd" if "systemd-cgroup" in parsed.given else "cgroupfs"
        manager = parsed.last("cgroup-manager", default)
        words.choice("cgroupfs", "systemd", "disabled")("--cgroup-manager", manager)
        kind, colon, rest = parsed.last("log").partition(":")
        path = rest if colon and kind == "file" else parsed.last("log")
        if colon and kind != "file" and "/" not in kind:
            raise InvalidInput(f"unknown log type {kind!r}", path="--log", next="a file: --log PATH")
        path = "" if path == "/dev/stderr" else path and os.path.abspath(path)
        log = Log(path, format, words.boolean("--debug", parsed.last("debug", "false")))
        root, command = parsed.last("root"), (*parsed.arguments, "")[0]
        return cls(log, root or default_root(), bool(root), manager, parsed.last("criu", "criu"), command)

    def words(self, e: KistError) -> str:
        """One line."""
        text = _for_callers(e)
        return f"{self.command or 'kist-oci'} failed: {text}" if self.command in ("create", "run", "exec") else text

    @property
    def debug(self) -> Callable[[str], None] | None:
        return self.log.debug if self.log.verbose else None

    @property
    def exit_status(self) -> int:
        """Of a command that failed."""
        return 255 if self.command == "exec" else 1

    def explainer(self) -> list[str]:
        """What the launcher becomes when a step fails: see failed.py."""
        import sys

        path = __file__.removesuffix("messages.py") + "failed.py"
        return [sys.executable, "-I", "-S", "-X", "utf8", path, self.log.path, self.log.format, self.command]


_WORDS = {
    "$.linux.memoryPolicy.nodes": "invalid memory policy node",
    "$.linux.memoryPolicy.flags": "invalid memory policy flag",
    "$.linux.memoryPolicy": "invalid memory policy mode",
    "$.linux.resources.unified": "invalid configuration",
}


def _for_callers(e: KistError) -> str:
    """runc's words, where callers and tests are known to look for them."""
    for path, text in _WORDS.items():
        if isinstance(e, InvalidInput) and e.path.startswith(path):
            return f"{text}: {e.what}"
    if e.what.startswith("cannot enforce unified."):
        return f"invalid configuration: {e.what}: {e.why}"
    name = e.what.rpartition(": ")[0].removeprefix("cannot execute ") or e.what
    if e.code == "command-not-found":
        command = e.what.removeprefix("command not found in the container: ")
        if "/" in command:
            return f'exec: "{command}": stat {command}: no such file or directory'
        return f'exec: "{command}": executable file not found in $PATH'
    if e.code == "command-not-executable":
        return f'exec: "{name}": {e.why[:1].lower()}{e.why[1:]}'
    return f"{e.what}: {e.why}" if e.why and e.code == "step-failed" else e.what


def chosen(containers: Containers, parsed: Parsed) -> list[str]:
    """The container named, or with --regex all whose names match. Raises InvalidInput."""
    id = parsed.arguments[0]
    if parsed.last("regex", "false") not in ("true", "1"):
        return [id]
    import re

    try:
        pattern = re.compile(id)
    except re.error as e:
        raise InvalidInput(f"{id!r} is no regular expression: {e}", path="ID") from e
    return [container.id for container in containers if pattern.search(container.id)]


def default_root() -> str:
    """/run/kist-oci for root, else below XDG_RUNTIME_DIR, else /tmp/kist-oci-UID."""
    if os.geteuid() == 0 and not os.environ.get("XDG_RUNTIME_DIR", "").startswith("/run/user/"):
        return "/run/kist-oci"
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/kist-oci" if base.startswith("/") else f"/tmp/kist-oci-{os.geteuid()}"
