"""The shell of a page: it is given a block after the other, as somebody at a terminal would type them."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from page import Block, matches
from standing import standing

from containers import leftovers
from kist.engine.state import StateDirectory

TIME_S = 180.0  # for one block; none takes more than 10 s on a quiet machine
# What bash, and unshare(1) of util-linux 2.38, say when a child was killed; when they do is anybody's guess.
_KILLED = re.compile(
    r"^(\S*bash: line \d+: +\d+ (Killed|Terminated|Hangup) .*|unshare: sigprocmask unblock failed: .*)\n", re.MULTILINE
)


class Stuck(Exception):
    """A block did not come to its end."""


class Shell:
    """Runs blocks in `directory`, with temporary files below it."""

    def __init__(self, directory: Path, path: str) -> None:
        self._directory, self._run_dir, self._before = directory, directory / "run", standing()
        for name in ("run", "home"):
            (directory / name).mkdir(mode=0o700)
        self.failed = ""  # the block that did
        self.done = 0  # blocks that were run or left out
        read, write = os.pipe()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory / "home",
            env={
                "PATH": f"{path}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(directory / "home"),
                "TMPDIR": str(directory),
                "KIST_RUN_DIR": str(self._run_dir),
                "KIST_DATA_DIR": str(directory / "data"),
                "LANG": "C.UTF-8",
                "COLUMNS": "80",
            },
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=write,
            start_new_session=True,
        )
        os.close(write)
        self._output = read

    def run(self, block: Block) -> tuple[str, int]:
        """What it prints, on both streams, and its last command's status. Raises Stuck."""
        text = block.text
        if block.language == "python":
            (self._directory / "block.py").write_text(text)
            text = f"python '{self._directory}/block.py'"
        end_s = time.monotonic() + TIME_S
        while True:
            printed, status = self._run(text, end_s)
            if "eventually" not in block.ways or time.monotonic() > end_s:
                return printed, status
            if status == block.status and all(matches(e.text, printed) for e in block.expectations):
                return printed, status
            time.sleep(0.05)

    def _run(self, text: str, end_s: float) -> tuple[str, int]:
        mark = uuid.uuid4().hex
        assert self._shell.stdin
        try:
            self._shell.stdin.write(f"{text}\nprintf '\\n%s %s\\n' {mark} \"$?\"\n".encode())
            self._shell.stdin.flush()
        except BrokenPipeError:
            raise Stuck("the shell has ended") from None
        printed = b""
        while not (match := re.search(rb"\n%s (\d+)\n" % mark.encode(), printed)):
            ready, _, _ = select.select([self._output], [], [], max(0.0, end_s - time.monotonic()))
            chunk = os.read(self._output, 1 << 16) if ready else b""
            if not chunk:
                why = "the shell has ended" if ready else f"no end after {TIME_S:g} s"
                raise Stuck(f"{why}; printed:\n{printed.decode(errors='replace')}")
            printed += chunk
        return _KILLED.sub("", f"{printed[: match.start()].decode(errors='replace')}\n"), int(match[1])

    def close(self, patience_s: float = 5.0) -> list[str]:
        """End it. Returns what the page has left behind, and removes it. What was killed ends in its own time."""
        assert self._shell.stdin
        try:
            self._shell.stdin.close()  # shells end, from the innermost
            self._shell.wait(timeout=20)
            shutil.rmtree(self._run_dir / ".network", ignore_errors=True)  # what networks are outlives containers
            left = self._left()
            end_s = time.monotonic() + patience_s
            while left and time.monotonic() < end_s:
                time.sleep(0.05)
                left &= self._left()  # all the time: not what another passes through
        except (BrokenPipeError, subprocess.TimeoutExpired):
            left = {"its shell"}
        left = {_named(what) for what in left}
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._shell.wait()
        os.close(self._output)
        StateDirectory(str(self._run_dir)).sweep()  # as the next command would
        for what in sorted(left, reverse=True):  # the innermost first
            if what.startswith("cgroup "):
                _remove(Path(what.removeprefix("cgroup ")))
            elif what.startswith("mount "):
                subprocess.run(["umount", "--lazy", what.split()[5]], check=False)
        return sorted(left)

    def _left(self) -> set[str]:
        found = standing() - self._before
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, group = stat.read_text().rpartition(")")[2].split()[:3]
                if int(group) == self._shell.pid and state != "Z":
                    found.add(f"process {stat.parent.name}")  # by number: what is being started changes its name
            except OSError:
                continue
        return found.union(leftovers(self._run_dir))


def _named(what: str) -> str:
    kind, _, number = what.partition(" ")
    try:
        return f"{what} {Path(f'/proc/{number}/cmdline').read_bytes().split(bytes(1))}" if kind == "process" else what
    except OSError:
        return what


def _remove(cgroup: Path) -> None:
    end_s = time.monotonic() + 5
    while cgroup.exists():
        try:
            cgroup.rmdir()
        except OSError:  # what was killed in it is not yet gone
            if time.monotonic() > end_s:
                raise
            time.sleep(0.05)
