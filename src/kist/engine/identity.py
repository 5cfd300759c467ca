"""Who a command runs as: `--user` and `--group-add`, by the container's own passwd and group.

Digits are ids, never names, and nothing falls back to 0 (CVE-2026-30892, CVE-2024-40635). The files are the
container's to choose: only regular files of at most 1 MiB are read, without waiting (CVE-2026-47262).
Source: passwd(5), group(5); docker run --user.
"""

from __future__ import annotations

import stat

from kist.errors import InvalidInput
from kist.plan.config import Identity
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_BYTES = 1 << 20
_MAX_ID = 2**31 - 1  # what docker allows; (uid_t)-1 and what wraps around it mean something else to the kernel


class RootReader:
    """Reads small files of a root file system that nobody trusts: symlinks stay inside the root."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def __call__(self, path: str) -> str:
        """The file's text, "" if there is none. Raises InvalidInput for what is no regular file, or too large."""
        from kist.store.tree import Walker

        parent, _, name = path.strip("/").rpartition("/")
        root = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Walker(root) as walker:
                for _ in range(8):  # /etc/passwd may be a link itself
                    try:
                        directory = walker.open(parent.encode())
                        return _read_at(directory.fd, name, path)
                    except _Link as link:
                        target = link.target if link.target.startswith("/") else f"/{parent}/{link.target}"
                        parent, _, name = os.path.normpath(target).strip("/").rpartition("/")
                raise InvalidInput(f"too many symbolic links at {path} in the container")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        finally:
            os.close(root)


class _Link(Exception):
    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


def _read_at(directory: int, name: str, path: str) -> str:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as e:
        if e.errno == 40:  # ELOOP
            raise _Link(os.readlink(name, dir_fd=directory)) from e
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidInput(f"{path} in the container is not a regular file", next="give numbers: --user 1000:1000")
        data = os.read(fd, _MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_BYTES:
        raise InvalidInput(f"{path} in the container is larger than 1 MiB", next="give numbers: --user 1000:1000")
    return data.decode("utf-8", "surrogateescape")


def resolve(user: str, group_add: Sequence[str], read: Callable[[str], str]) -> Identity:
    """Raises InvalidInput for a name that the container does not have."""
    if not user and not group_add:
        return Identity()
    name, _, group = user.partition(":")
    entries = [line.split(":") for line in read("/etc/passwd").splitlines()]
    groups = [line.split(":") for line in read("/etc/group").splitlines()]
    uid, gid, home, login = _user(name or "0", entries)
    if group:
        gid = _group(group, groups, "--user")
    extra = [] if group else [n for g in groups if len(g) == 4 and login and login in g[3].split(",")
                              for n in [_number(g[2])] if n is not None]  # fmt: skip
    extra += [_group(word, groups, "--group-add") for word in group_add]
    return Identity(uid, gid, tuple(dict.fromkeys(extra)), home)


def _number(text: str) -> int | None:
    """None unless it is an id: plain decimal digits, within range."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID else None


def _user(word: str, entries: Sequence[Sequence[str]]) -> tuple[int, int, str, str]:
    """(uid, gid, home, name)."""
    digits = word.isascii() and word.isdigit()
    if digits and _number(word) is None:
        raise InvalidInput(f"{word} is no user id", path="--user", why=f"ids go up to {_MAX_ID}")
    for entry in entries:
        if len(entry) < 6 or (entry[2] != word.lstrip("0") and entry[2] != word if digits else entry[0] != word):
            continue
        uid, gid = _number(entry[2]), _number(entry[3])
        if uid is None or gid is None:
            raise InvalidInput(f"/etc/passwd in the container gives {word} no valid ids", path="--user")
        return uid, gid, entry[5] or "/", entry[0]
    if digits:
        return int(word), 0, "/root" if int(word) == 0 else "/", ""
    raise InvalidInput(f"the container has no user {word!r}", path="--user", why="its /etc/passwd does not name one",
                       next="give numbers, as in --user 1000:1000", code="no-such-user")  # fmt: skip


def _group(word: str, groups: Sequence[Sequence[str]], flag: str) -> int:
    if word.isascii() and word.isdigit():
        number = _number(word)
        if number is None:
            raise InvalidInput(f"{word} is no group id", path=flag, why=f"ids go up to {_MAX_ID}")
        return number
    for entry in groups:
        if len(entry) >= 3 and entry[0] == word and (number := _number(entry[2])) is not None:
            return number
    raise InvalidInput(f"the container has no group {word!r}", path=flag, why="its /etc/group does not name one",
                       next="give a number", code="no-such-group")  # fmt: skip
