"""Firewall tables of before nf_tables (iptables-legacy), read only.

ctypes is imported only where such a table exists: getsockopt has to be told the table's name in its own buffer.
Source: linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import os
from struct import pack, unpack_from

from kist.kernel import procfs

_IPV4, _IPV6 = 2, 10  # NFPROTO_*, and AF_* at the same time
_LEVELS = {_IPV4: 0, _IPV6: 41}
_ENTRY_BYTES = {_IPV4: 84, _IPV6: 136}  # struct ipt_ip, ip6t_ip6
_RAW_CLOEXEC, _IPPROTO_RAW = 3 | 0o2000000, 255
_GET_INFO, _GET_ENTRIES = 64, 65
_NAME, _INFO_BYTES, _HEAD_BYTES = b"filter".ljust(32, b"\0"), 84, 40
_FORWARD, _DROP = 2, -1


def dropping(family: int) -> bytes:
    """The entries of the table `filter` if its chain FORWARD has the policy DROP, else b"". Makes no table."""
    names = f"/proc/thread-self/net/ip{'6' if family == _IPV6 else ''}_tables_names"
    try:
        if b"filter\n" not in procfs.read(names):
            return b""
    except OSError:  # the kernel has none, or they are not ours to read
        return b""
    from _socket import socket

    made = socket(family, _RAW_CLOEXEC, _IPPROTO_RAW)
    try:
        info = _get(made.fileno(), _LEVELS[family], _GET_INFO, _NAME.ljust(_INFO_BYTES, b"\0"))
        (size,) = unpack_from("<I", info, 80)
        asked = (_NAME + pack("<I", size)).ljust(_HEAD_BYTES + size, b"\0")
        entries = _get(made.fileno(), _LEVELS[family], _GET_ENTRIES, asked)[_HEAD_BYTES:]
    finally:
        made.close()
    (policy,) = unpack_from("<I", info, 56 + 4 * _FORWARD)  # underflow: the entry that is the policy
    (target,) = unpack_from("<H", entries, policy + _ENTRY_BYTES[family] + 4)
    (verdict,) = unpack_from("<i", entries, policy + target + 32)
    return entries if verdict == _DROP else b""


def _get(fd: int, level: int, option: int, asked: bytes) -> bytes:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer, size = ctypes.create_string_buffer(asked, len(asked)), ctypes.c_uint32(len(asked))
    if libc.getsockopt(fd, level, option, buffer, ctypes.byref(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw
