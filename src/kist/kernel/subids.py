"""Subordinate ids of a user, and the programs that map them: newuidmap(1), newgidmap(1), subuid(5)."""

import stat

from kist.plan.facts import IdRange
from kist.system import os

# Never the caller's PATH: these run with privileges. The last one is NixOS's directory of setuid programs.
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin")
_ID_END = 2**32 - 1  # (uid_t)-1 is no id


def _number(text: str) -> int:
    """-1 unless `text` is a plain decimal of at most 32 bits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1


def parse_subids(text: str, user_name: str, uid: int) -> tuple[IdRange, ...]:
    """The ranges of a user in /etc/subuid or /etc/subgid, named or by number; malformed lines count as absent."""
    owners = {str(uid)} | ({user_name} if user_name else set())
    ranges = []
    for line in text.split("\n"):
        owner, *numbers = line.split(":")
        if owner not in owners or len(numbers) != 2:
            continue
        start, size = (_number(number.strip()) for number in numbers)
        if start >= 0 and size > 0 and start + size <= _ID_END:
            ranges.append(IdRange(start, size))
    return tuple(dict.fromkeys(ranges))


def parse_user_name(passwd: str, uid: int) -> str:
    """The name that passwd(5) gives to `uid`, or ""."""
    wanted = str(uid)
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[2] == wanted:
            return fields[0]
    return ""


def find_id_mapper(name: str) -> str:
    """Absolute path of `name` ("newuidmap") where it is installed with the privilege it needs: setuid root (Debian) or
    file capabilities (Fedora); "" if nowhere."""
    for directory in _DIRECTORIES:
        path = f"{directory}/{name}"
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
                continue
            if status.st_mode & stat.S_ISUID and status.st_uid == 0:
                return path
            os.getxattr(path, "security.capability")
            return path
        except OSError:
            continue
    return ""
