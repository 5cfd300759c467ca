"""Every error kist raises: names, stable codes, exit codes. Imports nothing.

An error answers four questions: what failed (on what), why, what to do next, and which stable code to search for.
    cannot mount overlay on /run/kist/ab12/root: EPERM
      why:  kernel 5.10 lacks unprivileged overlayfs (needs 5.11)
      next: ...                                                             [step-failed]
"""


def printable(text: str | bytes) -> str:
    """With what is no picture on a terminal, as what moves its cursor or turns the direction around, written \\x1b.

    Labels, paths and commands of containers and images are others' words.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


class KistError(Exception):
    """Base of all errors that are not bugs. `exit_code` follows docker run: 125 the engine failed, 126 the
    command cannot be invoked, 127 the command is not found."""

    code = "error"
    exit_code = 125
    http_status = 500

    def __init__(self, what: str, *, why: str = "", next: str = "", code: str = "", exit_code: int = 0) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next
        if code:
            self.code = code
        if exit_code:
            self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why:  {self.why}")
        if self.next:
            lines.append(f"  next: {self.next}")
        lines[-1] += f"  [{self.code}]"
        return "\n".join([printable(line) for line in "\n".join(lines).split("\n")])


class InvalidInput(KistError):
    """A value the caller gave is malformed. `path` says where: a flag ("--memory") or a JSON path ("$.process.cwd")."""

    code = "invalid-input"
    http_status = 400

    def __init__(self, what: str, *, path: str = "", why: str = "", next: str = "", code: str = "") -> None:
        super().__init__(f"{path}: {what}" if path else what, why=why, next=next, code=code)
        self.path = path


class NotFound(KistError):
    """The named image, container or file does not exist."""

    code = "not-found"
    http_status = 404


class Conflict(KistError):
    """The name or resource is already taken."""

    code = "conflict"
    http_status = 409


class Refused(KistError):
    """Policy: kist will not do this, for example run without a protection that was asked for."""

    code = "refused"
    http_status = 403


class Unsupported(KistError):
    """This kernel or host lacks what the request needs."""

    code = "unsupported"
    http_status = 501


class StepFailed(KistError):
    """A step of the plan failed in the kernel. Everything made before it has been undone."""

    code = "step-failed"

    def __init__(
        self, what: str, *, step: int, errno: int, why: str = "", next: str = "", code: str = "", exit_code: int = 0
    ) -> None:
        super().__init__(what, why=why, next=next, code=code, exit_code=exit_code)
        self.step = step
        self.errno = errno


class NetlinkFailed(KistError):
    """The kernel refused a change of the network. `why` has its own words where it gives any (extended ACK)."""

    code = "netlink"

    def __init__(self, what: str, *, errno: int, why: str = "", next: str = "") -> None:
        super().__init__(what, why=why, next=next)
        self.errno = errno


class CorruptStore(KistError):
    """Something on disk is not what its name promises."""

    code = "corrupt-store"


class ProcessFailed(KistError):
    """`kist.run(..., check=True)`: the container ended with a non-zero status. `result` is the kist.Result."""

    code = "process-failed"

    def __init__(self, what: str, *, result: object, why: str = "") -> None:
        super().__init__(what, why=why)
        self.result = result


class RegistryError(KistError):
    """A registry, or the way to it, failed."""

    code = "registry"
    http_status = 502


class Unavailable(RegistryError):
    """A registry fails for now, also after some tries. `retry_after_s`: what it asks for; negative: it does not say."""

    code = "registry-unavailable"
    http_status = 503

    def __init__(self, what: str, *, why: str = "", next: str = "", code: str = "", retry_after_s: float = -1) -> None:
        super().__init__(what, why=why, next=next, code=code)
        self.retry_after_s = retry_after_s


class Unauthorized(RegistryError):
    """A registry wants credentials, or others than these."""

    code = "unauthorized"
    http_status = 401
