"""criu(8), which writes processes to files and brings them back: a request over a socket, answered by one process.

`criu swrk FD` serves one request. Messages are protocol buffers, of which this needs four kinds: numbers, strings,
messages within messages, and repetition. Source: criu images/rpc.proto; https://criu.org/RPC;
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import os

from kist.errors import KistError, NotFound, Unsupported
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    Field: TypeAlias = int | str | bytes | Sequence["Field"] | Mapping[int, "Field"]
    Options: TypeAlias = Mapping[str, Field]
    Notify: TypeAlias = Callable[[str, int, list[int]], None]

# enum criu_req_type
DUMP, RESTORE, PRE_DUMP, _NOTIFY, _FEATURES, _VERSION = 1, 2, 4, 6, 9, 10
_KINDS = {DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP", _FEATURES: "FEATURE_CHECK", _VERSION: "VERSION"}
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5, "": 6}  # enum criu_cg_mode
OLDEST = 31500  # 3.15: tells by a notification when lazy pages can be asked for
# message criu_opts
_NUMBERS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6,
    "shell_job": 7, "file_locks": 8, "log_level": 9, "log_file": 10, "page_server": 11, "notify_scripts": 12,
    "root": 13, "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18,
    "ext_mnt": 23, "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34,
    "external": 37, "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "lazy_pages": 48,
    "orphan_pts_master": 50, "config_file": 51, "lsm_profile": 53, "lsm_mount_context": 63,
}  # fmt: skip


# --- protocol buffers


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def encode(message: Mapping[int, Field]) -> bytes:
    """Values by field number: a sequence is a repeated field, a mapping a message within."""
    return b"".join([_field(number, value) for number, value in message.items()])


def _field(number: int, value: Field) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, (list, tuple)):
        return b"".join([_field(number, item) for item in value])
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    data = encode(data) if not isinstance(data, bytes) else data  # type: ignore[arg-type]
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def decode(data: bytes) -> dict[int, int | bytes]:
    """The last value of each field. Raises ValueError."""
    found: dict[int, int | bytes] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while at < len(data) and shift < 70:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value
        raise ValueError("a number has no end")

    while at < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3] = number()
            continue
        size = {1: 8, 2: None, 5: 4}[key & 7] if key & 7 in (1, 2, 5) else -1
        size = number() if size is None else size
        if not 0 <= size <= len(data) - at:
            raise ValueError("a field goes beyond the message")
        found[key >> 3] = data[at : at + size]
        at += size
    return found


# --- the program


class CriuFailed(KistError):
    """criu said no. Its log says why."""

    code = "criu"


class Criu:
    """One run of the program: `cgroups` are what it, and what it brings back, is put in first; `fds` stay open in it.

    Its standard input, output and errors are the caller's. Raises NotFound when there is none.
    """

    def __init__(self, *, fds: Sequence[int] = ()) -> None:
        import socket
        import subprocess

        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = ["criu", "swrk", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(argv, pass_fds=(theirs.fileno(), *fds))
            except FileNotFoundError as e:
                self._socket.close()
                raise NotFound("the program criu is not installed", next="install criu") from e

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, kind: int, options: Options | None = None, notify: Notify | None = None, features: Field = ()
    ) -> Response:
        """Until it is done. `notify` gets what criu tells meanwhile: which, about what process, with what fds.

        Raises CriuFailed, and whatever `notify` raises: then criu gives up, too.
        """
        fields = {_NUMBERS[name]: value for name, value in (options or {}).items()}
        message: dict[int, Field] = {1: kind, 2: fields or (), 5: features}
        with self._socket:
            try:
                self._socket.send(encode(message))
                for response, fds in self._responses(kind):
                    if response.kind != _NOTIFY:
                        break
                    self._notify(response, fds, notify)
            except OSError as e:
                raise CriuFailed(f"criu went away: {e.strerror}") from e
        status = self._process.wait()
        if not response.success or (status and kind != PRE_DUMP):  # after that, criu waits for the next one
            raise CriuFailed(f"criu failed: type {_KINDS[kind]} errno {response.errno}", why=response.message)
        return response

    def _responses(self, kind: int) -> Iterator[tuple[Response, list[int]]]:
        import socket

        while True:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, 4)
            if not data:
                raise CriuFailed(f"criu failed: type {_KINDS[kind]}: it ended without an answer")
            try:
                yield Response.from_bytes(data), fds
            except ValueError as e:
                raise CriuFailed(f"criu's answer is malformed: {e}") from e
            finally:
                for fd in fds:
                    os.close(fd)

    def _notify(self, response: Response, fds: list[int], notify: Notify | None) -> None:
        if notify:
            notify(response.script, response.pid, fds)
        self._socket.send(encode({1: _NOTIFY, 3: 1}))

    def close(self) -> None:
        """Nothing of it stays, whatever went wrong."""
        self._socket.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Response(Value):
    """message criu_resp."""

    kind: int
    success: bool
    errno: int = 0
    message: str = ""  # the first error in its log; since 3.17
    script: str = ""  # of a notification
    pid: int = 0
    version: int = 0  # 3.17.1: 31701
    features: dict[int, int | bytes] = {}

    @classmethod
    def from_bytes(cls, data: bytes) -> Response:
        """Raises ValueError."""
        found = decode(data)

        def within(*numbers: int) -> dict[int, int | bytes]:
            value = next((found[n] for n in numbers if n in found), b"")
            return decode(value) if isinstance(value, bytes) else {}

        def number(message: dict[int, int | bytes], field: int) -> int:
            value = message.get(field, 0)
            return value if isinstance(value, int) else 0

        def text(message: dict[int, int | bytes], field: int) -> str:
            value = message.get(field, b"")
            return value.decode(errors="replace").strip() if isinstance(value, bytes) else ""

        about, version = within(5), within(10)
        return cls(
            kind=number(found, 1), success=bool(number(found, 2)), errno=number(found, 7),
            message=text(found, 9), script=text(about, 1),
            pid=number(about, 2) or number(within(4), 1),
            version=number(version, 1) * 10000 + number(version, 2) * 100 + number(version, 4), features=within(8),
        )  # fmt: skip


def require_version(least: int = OLDEST) -> None:
    """Raises NotFound, Unsupported."""
    with Criu() as criu:
        found = criu.ask(_VERSION).version
    if found < least:
        raise Unsupported(
            f"CRIU {_words(found)} is too old", why=f"it takes {_words(least)}", next="install a newer criu"
        )


def _words(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


def require_feature(name: str) -> None:
    """ "mem_track" or "lazy_pages". Raises Unsupported where this kernel, or this criu, has it not."""
    number = {"mem_track": 1, "lazy_pages": 2}[name]
    with Criu() as criu:
        features = criu.ask(_FEATURES, features={number: 1}).features
    if not features.get(number):
        words = {"mem_track": "tracking of written memory", "lazy_pages": "userfaultfd events"}
        raise Unsupported(f"CRIU is missing features: {name}", why=f"this kernel has no {words[name]}")


def quote_log(path: str) -> list[str]:
    """The lines of criu's log that say what went wrong, each with its number, and those just before it."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    shown = [i for i, line in enumerate(lines) if any("Error" in near for near in lines[i : i + 4])]
    return [f"{i + 1}:{lines[i]}" for i in shown[:40]]
