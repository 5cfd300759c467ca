"""A cpio archive in the "newc" format, as the kernel unpacks it (its early-userspace/buffer-format.rst).

Members lie inside where they lie on this machine. Not compressed: it only goes from memory to memory.
"""

import fnmatch
import importlib.util
import marshal
import os
import re
import stat
import struct
import subprocess
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple


class Member(NamedTuple):
    """A file or symbolic link. The directories above it are made by the writer, root's and open to all."""

    mode: int
    content: bytes
    mtime: int = 0


class Archive:
    """What to pack, by path."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._elf: list[str] = []

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Make a file with this content."""
        data = content.encode() if isinstance(content, str) else content
        self.members[path] = Member(stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self.members[path] = Member(stat.S_IFLNK | 0o777, target.encode())

    def add(self, path: str, extra_mode: int = 0) -> None:
        """Take a file of this machine, and each symbolic link on the way to it. Nothing if it leads to no file."""
        parent = ""
        parts = os.path.abspath(path).strip("/").split("/")
        for depth, part in enumerate(parts, 1):
            here = f"{parent}/{part}"
            if os.path.islink(here):
                target = os.readlink(here)
                self.link(here, target)
                self.add(os.path.join(parent or "/", target, *parts[depth:]), extra_mode)
                return
            parent = here
        if parent not in self.members and os.path.isfile(parent):
            self._add_file(parent, extra_mode)

    def _add_file(self, path: str, extra_mode: int) -> None:
        with open(path, "rb") as file:
            content = file.read()
            status = os.fstat(file.fileno())
        # Readable to all, whatever the umask here was: the tests also run as an ordinary user.
        mode = stat.S_IFREG | status.st_mode & 0o755 | 0o444 | extra_mode
        self.members[path] = Member(mode, content, int(status.st_mtime))
        if content.startswith(b"\x7fELF"):
            self._elf.append(path)
        elif path.endswith(".py"):
            self._add_bytecode(path, content, int(status.st_mtime))

    def _add_bytecode(self, path: str, source: bytes, mtime: int) -> None:
        """Put the compiled module beside its source; compiling inside would cost seconds."""
        cached = importlib.util.cache_from_source(path)
        # PEP 552: magic, flags (0: valid while the source has this time and size), time, size.
        header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, mtime & 0xFFFFFFFF, len(source))
        bytecode = b""
        if os.path.exists(cached):
            with open(cached, "rb") as file:
                bytecode = file.read()
        if not bytecode.startswith(header):
            try:
                bytecode = header + marshal.dumps(compile(source, path, "exec", dont_inherit=True))
            except SyntaxError:  # a template, or a test of the parser
                return
        self.members[cached] = Member(stat.S_IFREG | 0o644, bytecode, mtime)

    def add_tree(self, root: str, leave_out: Iterable[str]) -> None:
        """Take the files below a directory, but none whose path relative to it matches a pattern of `leave_out`."""
        for directory, names, files in os.walk(root):
            kept = [
                n for n in names + files if not _matches(os.path.relpath(os.path.join(directory, n), root), leave_out)
            ]
            names[:] = [n for n in names if n in kept]
            for name in files:
                if name in kept:
                    self.add(os.path.join(directory, name))

    def add_libraries(self) -> None:
        """Take the shared libraries of all ELF files taken so far, as this machine's loader finds them (ldd(1))."""
        output = subprocess.run(["ldd", *self._elf], capture_output=True, text=True, check=False).stdout
        for library in sorted(set(re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", output, re.MULTILINE))):
            self.add(library)

    def save(self, file: BinaryIO) -> None:
        """Write the archive."""
        for number, (path, member) in enumerate(self._with_directories(), 1):
            _save_member(file, number, path[1:], member)
        _save_member(file, 0, "TRAILER!!!", Member(0, b""))

    def _with_directories(self) -> Iterator[tuple[str, Member]]:
        made = {"/"}
        for path in sorted(self.members):
            above = os.path.dirname(path)
            missing = []
            while above not in made:
                made.add(above)
                missing.append(above)
                above = os.path.dirname(above)
            for directory in reversed(missing):
                yield directory, Member(stat.S_IFDIR | 0o755, b"")
            yield path, self.members[path]


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _save_member(file: BinaryIO, number: int, name: str, member: Member) -> None:
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, member.mode, 0, 0, 1, member.mtime, len(member.content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    file.write(header + bytes(-len(header) % 4) + member.content + bytes(-len(member.content) % 4))
