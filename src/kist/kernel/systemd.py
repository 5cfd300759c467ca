"""systemd as maker of cgroups: a scope unit for a container, asked for over the manager's private socket.

Source: org.freedesktop.systemd1(5); systemd.resource-control(5); the D-Bus specification, "Message Protocol" and
"Authentication Protocol". The private socket needs no message bus: it is what systemctl(1) uses.
"""

from __future__ import annotations

import os
from struct import pack, unpack_from

from kist.errors import KistError, Unsupported
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

_PATH, _MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_CALL, _REPLY, _ERROR = 1, 2, 3
_TIMEOUT_S = 30.0
_MESSAGE_BYTES_MAX = 1 << 20
_ALIGN = {"y": 1, "g": 1, "v": 1, "b": 4, "u": 4, "s": 4, "o": 4, "i": 4, "a": 4, "t": 8, "x": 8, "(": 8}
_NUMBERS = {"y": "B", "b": "I", "u": "I", "i": "i", "t": "Q", "x": "q"}  # struct's letters


class Property(Value):
    """`value` is of the D-Bus type `signature`: "s", "b", "t", "as", "au", "ay"."""

    name: str
    signature: str
    value: object


class UnitError(KistError):
    """systemd refused; `name` is D-Bus's name of the error."""

    code = "systemd"

    def __init__(self, what: str, name: str = "") -> None:
        super().__init__(what, next="systemctl status, journalctl")
        self.name = name


class Manager:
    """A connection to the system's manager, for root, or to this user's. Raises Unsupported when there is none."""

    def __init__(self) -> None:
        import socket

        path = "/run/systemd/private"
        if os.geteuid() != 0:
            path = f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{os.geteuid()}'}/systemd/private"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.connect(path)
        except OSError as e:
            raise Unsupported(
                "systemd cannot be asked for a cgroup",
                why=f"{path}: {e.strerror}",
                next="leave --systemd-cgroup out, or boot with systemd",
            ) from e
        self._serial = 0
        user = str(os.geteuid()).encode().hex()
        self._socket.sendall(b"\0AUTH EXTERNAL " + user.encode() + b"\r\n")
        if not self._line().startswith(b"OK"):
            raise UnitError("systemd does not accept this user")
        self._socket.sendall(b"BEGIN\r\n")

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def start_scope(self, unit: str, properties: Sequence[Property]) -> None:
        """Returns when the job is queued: the processes move a little later. Raises UnitError."""
        extra: list[object] = []
        self._call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", _pairs(properties), extra))

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Until the next start. Raises UnitError."""
        self._call("SetUnitProperties", "sba(sv)", (unit, True, _pairs(properties)))

    def stop(self, unit: str) -> None:
        """And forget that it failed, if it did; fine when there is none."""
        for method, signature, arguments in (
            ("StopUnit", "ss", (unit, "replace")),
            ("ResetFailedUnit", "s", (unit,)),
        ):
            try:
                self._call(method, signature, arguments)
            except UnitError as e:
                if not e.name.endswith(("NoSuchUnit", "UnitNotLoaded")):
                    raise

    def _line(self) -> bytes:
        found = b""
        while not found.endswith(b"\r\n") and len(found) < 1000:
            byte = self._socket.recv(1)
            if not byte:
                break
            found += byte
        return found

    def _call(self, method: str, signature: str, arguments: Sequence[object]) -> None:
        self._serial += 1
        body = _Writer()
        for kind, value in zip(_split(signature), arguments, strict=True):
            body.put(kind, value)
        head = _Writer()
        fields: list[tuple[int, tuple[str, object]]] = [
            (1, ("o", _PATH)),
            (2, ("s", _MANAGER)),
            (3, ("s", method)),
            (6, ("s", "org.freedesktop.systemd1")),
            (8, ("g", signature)),
        ]
        head.data += pack("<4BII", ord("l"), _CALL, 0, 1, len(body.data), self._serial)
        head.put("a(yv)", fields)
        head.pad(8)
        self._socket.sendall(bytes(head.data + body.data))
        self._await(method)

    def _await(self, method: str) -> None:
        """Signals and what else arrives before the reply are passed over."""
        while True:
            fixed = _exactly(self._socket, 16)
            order = "<" if fixed[0] == ord("l") else ">"
            size, _, fields_size = unpack_from(f"{order}III", fixed, 4)
            if size + fields_size > _MESSAGE_BYTES_MAX:
                raise UnitError("systemd's answer is too long")
            fields = _exactly(self._socket, (fields_size + 7) // 8 * 8)
            body = _exactly(self._socket, size)
            if fixed[1] == _REPLY:
                return
            if fixed[1] == _ERROR:
                name = next((w for w in fields.decode("latin-1").split("\0") if "Error." in w or "systemd1." in w), "")
                text = body[4:].split(b"\0")[0].decode("utf-8", "replace") if len(body) > 4 else name
                raise UnitError(f"systemd: {method}: {text}", name)


def _pairs(properties: Sequence[Property]) -> list[tuple[str, tuple[str, object]]]:
    return [(p.name, (p.signature, p.value)) for p in properties]


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        try:
            part = connection.recv(size - len(found))
        except TimeoutError:
            part = b""
        if not part:
            raise UnitError("systemd does not answer")
        found += part
    return found


def _split(signature: str) -> list[str]:
    """The complete types in a signature: "ssa(sv)" has three."""
    found, start, depth = [], 0, 0
    for at, letter in enumerate(signature):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter != "a":
            found.append(signature[start : at + 1])
            start = at + 1
    return found


class _Writer:
    """Values in D-Bus's wire format, little-endian, aligned to the beginning."""

    def __init__(self) -> None:
        self.data = bytearray()

    def pad(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, kind: str, value: object) -> None:
        """A variant is a pair of its signature and its value; a structure a tuple."""
        self.pad(_ALIGN[kind[0]])
        if kind in "so":
            text = str(value).encode()
            self.data += pack("<I", len(text)) + text + b"\0"
        elif kind == "g":
            text = str(value).encode()
            self.data += bytes([len(text)]) + text + b"\0"
        elif kind in _NUMBERS:
            assert isinstance(value, int)
            self.data += pack(f"<{_NUMBERS[kind]}", value)
        elif kind == "v":
            assert isinstance(value, tuple)
            self.put("g", value[0])
            self.put(value[0], value[1])
        elif kind[0] == "(":
            assert isinstance(value, tuple)
            for inner, item in zip(_split(kind[1:-1]), value, strict=True):
                self.put(inner, item)
        else:
            self._put_array(kind[1:], value)

    def _put_array(self, kind: str, value: object) -> None:
        assert isinstance(value, (list, tuple, bytes))
        at = len(self.data)
        self.data += bytes(4)
        self.pad(_ALIGN[kind[0]])
        begin = len(self.data)
        for item in value:
            self.put(kind, item)
        self.data[at : at + 4] = pack("<I", len(self.data) - begin)
