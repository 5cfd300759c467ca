"""What a command leaves running that is killed."""

import ctypes
import os
import subprocess
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
RATHER_S = 10


def left_by(argv: list[str], delay_s: float, **stdio: int) -> str:
    """The command lines of its descendants that outlive its SIGKILL, which comes after so long. They are killed."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            os.write(write, _left_by(argv, delay_s, stdio).encode())
        except BaseException as e:
            os.write(write, repr(e).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        found = said.read()
    os.wait()
    return found


def _left_by(argv: list[str], delay_s: float, stdio: dict[str, int]) -> str:
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):  # who is nobody's child becomes ours
        raise OSError("no subreaper")
    process = subprocess.Popen(argv, **stdio)  # type: ignore[call-overload]
    time.sleep(delay_s)
    process.kill()
    process.wait()
    deadline = time.monotonic() + RATHER_S
    while _reap():
        if time.monotonic() > deadline:
            return "".join(_name_and_kill(int(pid)) for pid in _children())
        time.sleep(0.002)
    return ""


def _reap() -> bool:
    """Whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def _name_and_kill(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    os.kill(pid, 9)
    return f"{words}\n"
