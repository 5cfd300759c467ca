"""What stays on a machine after those who made it: mounts, cgroups, directories of containers."""

import fcntl
import os
from pathlib import Path

CGROUPS = ("kist/*", "tutorial*")  # what kist, and the pages, call theirs


def standing() -> set[str]:
    """All that is nobody's: what others own, or a running container of theirs holds, is not among it."""
    mounts = {f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    return mounts | {f"cgroup {path}" for path in cgroups() if not _is_somebodys(path)} | _states()


def cgroups() -> list[Path]:
    """Those of kist and of pages, on v2 and in each tree of v1. Innermost first."""
    top = Path("/sys/fs/cgroup")
    found = [p for name in CGROUPS for pattern in (name, f"*/{name}") for at in top.glob(pattern) for p in _tree(at)]
    return sorted(found, reverse=True)


def _tree(top: Path) -> list[Path]:
    """The directory and those below; others' may go meanwhile."""
    return [Path(directory) for directory, _, _ in os.walk(top)]


def _is_somebodys(cgroup: Path) -> bool:
    try:
        return cgroup.stat().st_uid != os.geteuid() or any(
            (p / "cgroup.procs").read_text().strip() for p in _tree(cgroup)
        )
    except OSError:  # it is going
        return True


def _states() -> set[str]:
    """In the directories that kist uses where none is chosen: the pages have one of their own."""
    found = set()
    for directory in ("/run/kist", "/run/kist-oci", f"/tmp/kist-{os.geteuid()}", f"/tmp/kist-oci-{os.geteuid()}"):
        try:
            names = os.listdir(directory)
        except OSError:  # none, or not ours
            continue
        found |= {f"file {directory}/{name}" for name in names if not _is_locked(f"{directory}/{name}")}
    return found


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
