"""Boot the test machine, run one job in it, pass on its output and exit status. Started by `run`; see README.md."""

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from types import FrameType, TracebackType
from typing import Self

import host
import image

USAGE = """usage: tests/vm/run [pytest arguments]           default: tests/v2
       tests/vm/run --exec 'shell command'
       tests/vm/run --shell
Paths are relative to the repository. See tests/vm/README.md."""

FAILED, TIMED_OUT = 125, 124  # pytest's own exit statuses are 0 to 5
FIRST_BOOT_S, SECOND_BOOT_S = 60, 120  # limits; a boot takes 3 s on a quiet machine
TAIL_LINES = 30
READY = b"kist-vm: ready\n"  # said by init
DISK_BYTES = 64 << 20

# Emulated, also where /dev/kvm exists: nested virtualisation may be there and hang.
QEMU = """qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1024
    -display none -vga none -nic none -monitor none -no-reboot"""
# no_timer_check: on a busy host the timer test fails and the boot hangs. panic=-1: reboot at once, which ends qemu.
KERNEL_ARGUMENTS = "console=ttyS0 panic=-1 no_timer_check nokaslr mitigations=off"


class BootFailed(host.Failed):
    """The machine did not come to the point of running its job."""


class TimeIsUp(host.Failed):
    """KIST_VM_TIMEOUT is over."""


class Machine:
    """One qemu: the first serial line is the job's terminal, the second brings the job's exit status.

    Leaving the context kills it, and so does our own death, however sudden.
    """

    def __init__(self, package: str, initrd: int, *, shell: bool = False, verbose: bool = False) -> None:
        self._status, status = os.pipe()
        self._console, console = os.pipe()
        disk = _disk()
        release = os.path.basename(package).removeprefix("linux-image-")
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *QEMU.split()),
                *("-kernel", f"{package}/boot/vmlinuz-{release}", "-initrd", f"/dev/fd/{initrd}"),
                *("-append", f"{KERNEL_ARGUMENTS} {'loglevel=7' if verbose else 'quiet'}"),
                *("-drive", f"file=/dev/fd/{disk},format=raw,if=virtio,file.locking=off"),
                *("-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"),
                *("-serial", f"file:/dev/fd/{status}"),
            ],
            stdin=None if shell else subprocess.DEVNULL,
            stdout=None if shell else console,
            stderr=None if shell else console,
            pass_fds=(initrd, disk, status),
        )
        for inside in (disk, status, console):
            os.close(inside)
        os.set_blocking(self._console, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._status)
        os.close(self._console)

    def read(self, until_s: float) -> bytes:
        """Console output as it comes; empty when there will be no more, or when this time (monotonic) has come."""
        ready, _, _ = select.select([self._console, self._status], [], [], max(0.0, until_s - time.monotonic()))
        try:
            # Once there is a status there is no more output: the init waits until all of it is through.
            return os.read(self._console, 1 << 16) if ready else b""
        except BlockingIOError:
            return b""

    def exit_status(self) -> int | None:
        """What the job returned; None if it did not end."""
        status, wait_s = b"", 0.0
        while not status.endswith(b"\n"):
            ready, _, _ = select.select([self._status], [], [], wait_s)
            chunk = os.read(self._status, 100) if ready else b""
            if not chunk:
                return None
            status, wait_s = status + chunk, 5.0  # begun: the rest comes, byte by byte
        return int(status)

    def wait(self) -> None:
        """Until the job or qemu ends."""
        select.select([self._status], [], [])


def run(job: str, timeout_s: float) -> int:
    """Run a shell script as root in a fresh machine; return its exit status."""
    deadline_s = time.monotonic() + timeout_s
    package, initrd = _prepare(job)
    try:
        return _run_once(package, initrd, FIRST_BOOT_S, deadline_s)
    except BootFailed as e:
        _say(f"{e}\nonce more, with the kernel's messages")
        return _run_once(package, initrd, SECOND_BOOT_S, deadline_s, verbose=True)


def _run_once(package: str, initrd: int, boot_limit_s: float, deadline_s: float, *, verbose: bool = False) -> int:
    start_s = time.monotonic()
    with Machine(package, initrd, verbose=verbose) as machine:
        output = _boot(machine, min(start_s + boot_limit_s, deadline_s), deadline_s)
        _say(f"booted in {time.monotonic() - start_s:.1f} s")
        while True:
            while output:
                output = output[os.write(1, output) :]
            output = machine.read(deadline_s)
            if not output:
                break
        status = machine.exit_status()
    if status is None:
        _raise_if_late(deadline_s)
        raise host.Failed("the machine ended in the middle of its job")
    return status


def _boot(machine: Machine, until_s: float, deadline_s: float) -> bytes:
    """Wait for the job to begin; return what it has printed by then."""
    console = b""
    while READY not in console:
        chunk = machine.read(until_s)
        console += chunk
        if not chunk:
            _raise_if_late(deadline_s)
            tail = console.decode(errors="replace").replace("\r", "").splitlines()[-TAIL_LINES:]
            how = "hung" if time.monotonic() >= until_s else "ended"
            raise BootFailed("\n".join([f"the machine {how} while booting; last on its console:", *tail]))
    return console.partition(READY)[2]


def _raise_if_late(deadline_s: float) -> None:
    if time.monotonic() >= deadline_s:
        raise TimeIsUp("time is up (KIST_VM_TIMEOUT)")


def shell() -> int:
    """A root shell on this terminal, until it exits."""
    if not os.isatty(0):
        raise host.Failed("--shell needs a terminal; for one command use --exec")
    before = termios.tcgetattr(0)
    size = os.get_terminal_size(0)
    package, initrd = _prepare(
        f"stty sane rows {size.lines} cols {size.columns} </dev/ttyS0\n"
        "exec setsid -c bash -i </dev/ttyS0 >/dev/ttyS0 2>&1"
    )
    try:
        with Machine(package, initrd, shell=True) as machine:
            machine.wait()
            return machine.exit_status() or 0
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _prepare(job: str) -> tuple[str, int]:
    """The kernel package and the initramfs, the latter a file without a name: nothing to remove, however we end."""
    start_s = time.monotonic()
    host.require_commands()
    package = host.kernel()
    terminal = os.isatty(1)
    environment = {
        "PATH": os.path.dirname(os.path.abspath(sys.executable)) + ":/usr/sbin:/usr/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "KIST_TEST_VM": "1",
        "TERM": os.environ.get("TERM", "dumb") if terminal else "dumb",
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    initrd = os.memfd_create("initrd")
    with open(initrd, "wb", closefd=False) as file:
        image.build(file, package, "\n".join([*exports, f"cd {shlex.quote(image.REPOSITORY)}", job, ""]))
    _say(f"image of {os.fstat(initrd).st_size >> 20} MiB made in {time.monotonic() - start_s:.1f} s")
    return package, initrd


def _disk() -> int:
    """A new ext4 file system, on a file without a name."""
    disk = os.memfd_create("disk")
    os.truncate(disk, DISK_BYTES)
    host.run(["mke2fs", "-q", "-F", "-t", "ext4", f"/dev/fd/{disk}"], pass_fds=(disk,))
    return disk


def _pytest(arguments: list[str]) -> str:
    named = [a for a in arguments if os.path.exists(os.path.join(image.REPOSITORY, a.partition("::")[0]))]
    # hypothesis works without its plugin, which takes 6 s to load.
    command = ["exec", "python", "-m", "pytest", "-p", "no:hypothesispytest", *arguments]
    return shlex.join(command if named else [*command, "tests/v2"])


def _timeout_s() -> float:
    text = os.environ.get("KIST_VM_TIMEOUT") or "900"
    if not text.isdecimal():
        raise host.Failed(f"KIST_VM_TIMEOUT={text}: not a whole number of seconds")
    return float(text)


def _say(text: str) -> None:
    print(f"tests/vm: {text}", file=sys.stderr, flush=True)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> int:
    """Do what the command line asks for; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin") + ":/usr/sbin:/sbin"  # mke2fs, nft, ip: also for users
    try:
        timeout_s = _timeout_s()
        match arguments:
            case ["--help" | "-h"]:
                print(USAGE)
                return 0
            case ["--shell"]:
                return shell()
            case ["--exec", command]:
                return run(command, timeout_s)
            case ["--exec" | "--shell", *_]:
                raise host.Failed(USAGE)
            case _:
                return run(_pytest(arguments), timeout_s)
    except TimeIsUp as e:
        _say(str(e))
        return TIMED_OUT
    except (host.Failed, OSError) as e:
        _say(str(e))
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
