"""The default filter: what gets at the kernel's weak places is denied; the control is the same call without it."""

import json

from containers import inside

# x86_64 numbers; the first argument decides nothing here, so all are 0 (an address: EFAULT without the filter).
CALLS = {
    "io_uring_setup": 425, "userfaultfd": 323, "bpf": 321, "perf_event_open": 298, "keyctl": 250, "add_key": 248,
    "request_key": 249, "kexec_load": 246, "move_pages": 279, "open_by_handle_at": 304, "mount": 165, "umount2": 166,
    "pivot_root": 155, "unshare": 272, "setns": 308, "init_module": 175, "delete_module": 176, "reboot": 169,
    "swapon": 167, "iopl": 172, "quotactl": 179, "acct": 163, "settimeofday": 164, "fsopen": 430, "move_mount": 429,
    "open_tree": 428, "mount_setattr": 442, "lookup_dcookie": 212, "clone3": 435,
}  # fmt: skip
PROBE = f"""
import ctypes, errno, json, socket
libc = ctypes.CDLL(None, use_errno=True)
found = {{}}
for name, number in {CALLS!r}.items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
    found[name] = errno.errorcode.get(ctypes.get_errno(), "ok") if result == -1 else "ok"
for family in (38, 40, 1, 2, 10, 16):
    try:
        socket.socket(family, socket.SOCK_DGRAM if family != 38 else socket.SOCK_SEQPACKET).close()
        found[f"socket {{family}}"] = "ok"
    except OSError as e:
        found[f"socket {{family}}"] = errno.errorcode[e.errno]
ctypes.set_errno(0)
found["clone newuser"] = "ok" if libc.unshare(0x10000000) == 0 else errno.errorcode[ctypes.get_errno()]
ctypes.set_errno(0)
libc.syscall(ctypes.c_long(9999))
found["a call of the future"] = errno.errorcode[ctypes.get_errno()]
print(json.dumps(found))
"""


def errors(*args: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(inside(*args, "host", "python3", "-c", PROBE))
    return found


def test_denied():
    filtered, control = errors(), errors("--security-opt", "seccomp=unconfined")
    for name in CALLS:
        assert filtered[name] == ("ENOSYS" if name == "clone3" else "EPERM"), name
    assert filtered["a call of the future"] == "ENOSYS"
    assert filtered["clone newuser"] == "EPERM"
    let_through = {name for name in CALLS if control[name] not in ("EPERM", "ENOSYS")}
    assert {"io_uring_setup", "keyctl", "unshare", "move_pages", "clone3"} <= let_through


def test_sockets():
    filtered, control = errors(), errors("--security-opt", "seccomp=unconfined")
    assert filtered["socket 38"] == filtered["socket 40"] == "EPERM"  # AF_ALG, AF_VSOCK
    assert control["socket 38"] != "EPERM"
    assert [filtered[f"socket {family}"] for family in (1, 2, 10, 16)] == ["ok", "ok", control["socket 10"], "ok"]


def test_x32_is_fatal():
    """A number of the x32 ABI: past the filter's tables if nobody looked."""
    script = "import ctypes; ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39)); print('alive')"
    text = inside("host", "sh", "-c", f'python3 -c "{script}"; echo $?')
    assert text.split() == ["159"]  # 128 + SIGSYS
    assert "alive" in inside("--security-opt", "seccomp=unconfined", "host", "python3", "-c", script)
