"""Programs of the host: argument lists, never a shell; each with a timeout and a clear error."""

from __future__ import annotations

import os

from kist.errors import KistError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run_program(argv: Sequence[str], *, timeout_s: float, input: str | None = None) -> str:
    """What it prints. Raises NotFound when it is missing, KistError when it fails or takes too long."""
    import subprocess

    try:
        done = subprocess.run(argv, input=input, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as e:
        raise NotFound(f"the program {argv[0]} is not installed", next=f"install {argv[0]}") from e
    except subprocess.TimeoutExpired as e:
        raise KistError(f"{argv[0]} did not end within {timeout_s:g} s", code="timeout") from e
    if done.returncode:
        raise KistError(
            f"{argv[0]} failed with status {done.returncode}", why=(done.stderr or done.stdout).strip()[-400:]
        )
    return done.stdout


def start_apart(argv: Sequence[str]) -> bool:
    """Start a program that goes on by itself, with nothing of ours open; False if it cannot be started."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    try:
        os.posix_spawn(argv[0], list(argv), os.environ, file_actions=null, setsid=True)
    except OSError:
        return False
    return True
