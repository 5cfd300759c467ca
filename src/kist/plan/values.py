"""From what a person typed to plain values: pure. Each function takes the flag's name, for its errors, and the text.

Every error says which flag, which value, why, and what to write instead. Grammars are Docker's unless a docstring
says otherwise. Numbers are ASCII digits: Python's int() would take "1_000", " 5" and digits of other scripts.
Functions that return None say "not asked for": 0 means that to Docker.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan.request import PROTECTIONS, NetRate, RunRequest, SecurityOpt, TimeOffset, Ulimit
from kist.plan.words import DIGITS, UNLIMITED, bad, boolean, choice, integer, later, nearest, number, plain, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kist.plan.request import AllowRule, Publish

MIN_MEMORY_BYTES = 6 << 20  # docker's: below it a container cannot start
JOINS = ("container:", "ns:")
MAX_ID = 2**32 - 2  # the last uid_t; 2**32-1 is "no id" to setresuid(2)
INT64 = 2**63 - 1
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _LOWER + _LOWER.upper()
WORD = DIGITS | frozenset(_LETTERS)
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_DURATIONS = {"ns": 10**-9, "us": 10**-6, "µs": 10**-6, "ms": 10**-3, "s": 1, "m": 60, "h": 3600}
_UNIT_LETTERS = "nuµmsh"
_MAX_SECONDS = 2**32
_MAX_CPU = 8192  # CONFIG_NR_CPUS at its largest, and nodes are fewer
# Numbers 1 to 31 on x86, arm, riscv, powerpc, s390. Source: signal(7).
# fmt: off
_SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)
# fmt: on
_SIGRTMIN, _SIGRTMAX = 34, 64  # glibc keeps 32 and 33 for itself


# --- numbers


def pids_limit(flag: str, text: str) -> int | None:
    """0 means no limit, as it does to Docker. Source: kernel cgroup-v2.rst, "pids.max"."""
    return number(1, 1 << 22, unlimited=True)(flag, text if text != "0" else "-1")


def _decimal(text: str) -> tuple[int, int] | None:
    """`text` = first / second, exactly."""
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not digits or len(digits) > 40 or not DIGITS.issuperset(digits):
        return None
    return int(digits), 10 ** len(fraction)


def size(flag: str, text: str) -> int:
    """Bytes: `64m`, `1.5G`, `512 KiB`. Units are powers of 1024 in any case. Source: docker/go-units RAMInBytes."""
    example = f"a number and a unit of b, k, m, g, t: {flag} 256m"
    cut = len(text.rstrip(_LETTERS))
    digits, unit = text[:cut].removesuffix(" "), text[cut:].lower()
    value = _decimal(digits)
    if value is None:
        raise bad(flag, text, f"{show(digits)} is not a positive number", example)
    base = unit.removesuffix("ib") if len(unit) == 3 else unit.removesuffix("b") if len(unit) == 2 else unit
    if (unit and base not in _UNITS) or (base == "b" and unit != "b"):
        raise bad(flag, text, f"{show(unit)} is not a unit", example)
    size_bytes = value[0] * _UNITS[base or "b"] // value[1]
    if size_bytes > INT64:
        raise bad(flag, text, "it is more than 8 EiB", example)
    return size_bytes


def size_or_unset(flag: str, text: str) -> int | None:
    return size(flag, text) or None


def memory(flag: str, text: str) -> int | None:
    """Docker's minimum holds: the first process needs some memory before it is the command."""
    value = size(flag, text)
    if 0 < value < MIN_MEMORY_BYTES:
        raise bad(flag, text, "the minimum is 6 MiB: less does not start a process", f"at least {flag} 6m")
    return value or None


def memory_swap(flag: str, text: str) -> int | None:
    return UNLIMITED if text == "-1" else size_or_unset(flag, text)


def cpus(flag: str, text: str) -> float | None:
    """How many CPUs' worth of time: 0.01 to 8192, at most nine decimals."""
    value = _decimal(text)
    example = f"a number such as {flag} 1.5"
    if value is None:
        raise bad(flag, text, "it is not a positive decimal number", example)
    if value[1] > 10**9:
        raise bad(flag, text, "more than nine decimals cannot be kept", example)
    if value[0] and not value[1] <= value[0] * 100 <= _MAX_CPU * 100 * value[1]:
        raise bad(flag, text, f"it is not between 0.01 and {_MAX_CPU}", example)
    return value[0] / value[1] if value[0] else None


def cpu_list(flag: str, text: str) -> tuple[int, ...]:
    """`0-3,5`, ascending and unique. Source: cpuset(7), "List format"."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        low, high = integer(first), integer(last if dash else first)
        if low is None or high is None or "+" in part or not 0 <= low <= high < _MAX_CPU:
            raise bad(flag, text, f"{show(part)} is neither a number nor a range", f"a list such as {flag} 0-3,5")
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def umask(flag: str, text: str) -> int:
    if not text or len(text) > 4 or not set(text) <= set("01234567") or int(text, 8) > 0o777:
        raise bad(flag, text, "it is not an octal number up to 0777", f"for example {flag} 027")
    return int(text, 8)


def seconds(flag: str, text: str) -> float:
    """`90`, `0.5`, or Go's durations: `1m30s`, `-1h`. At most 136 years either way."""
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    total, unit = 0.0, ""
    while rest or not unit:
        tail = rest.lstrip("0123456789.")
        value = _decimal(rest[: len(rest) - len(tail)])
        rest = tail.lstrip(_UNIT_LETTERS)
        unit = tail[: len(tail) - len(rest)] or ("" if unit else "s")  # only a number alone needs no unit
        if value is None or unit not in _DURATIONS or (rest and not tail):
            raise bad(flag, text, "it is not a duration", f"seconds or a duration: {flag} 90, {flag} 1m30s")
        total += value[0] / value[1] * _DURATIONS[unit]
    if total > _MAX_SECONDS:
        raise bad(flag, text, "it is more than 136 years", f"less: {flag} 24h")
    return sign * total


def timeout(flag: str, text: str) -> float:
    value = seconds(flag, text)
    if value < 0.001:
        raise bad(flag, text, "nothing can be done in that time", f"at least {flag} 1ms, or leave {flag} out")
    return value


def time_offset(flag: str, text: str) -> TimeOffset:
    """`1h` for both clocks, or `monotonic=1h,boottime=2h`. Whole seconds. Source: time_namespaces(7)."""
    given: dict[str, int] = {}
    for part in text.split(","):
        clock, equals, duration = part.rpartition("=")
        value = seconds(flag, duration)
        clocks = (clock,) if equals else ("monotonic", "boottime")
        if not given.keys().isdisjoint(clocks) or not {"monotonic", "boottime"}.issuperset(clocks):
            raise bad(flag, text, f"{show(part)} names no clock, or one twice", f"{flag} monotonic=1h,boottime=2h")
        if value != int(value):
            raise bad(flag, text, "offsets are whole seconds", f"for example {flag} 1h")
        given.update(dict.fromkeys(clocks, int(value)))
    return TimeOffset(monotonic_s=given.get("monotonic", 0), boottime_s=given.get("boottime", 0))


# --- names


def platform(flag: str, text: str) -> str:
    """OS/ARCH[/VARIANT], with the names that images use."""
    from kist.spec.manifests import parse_platform, platform_words

    try:
        return platform_words(parse_platform(text))
    except InvalidInput as e:
        raise InvalidInput(e.what, path=flag, next=e.next, code=e.code) from e


def container_name(flag: str, text: str) -> str:
    """`[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128: it names files."""
    if not 1 <= len(text) <= 128 or text[0] not in WORD or not set(text) <= WORD | set("_.-"):
        why = "a name is 1 to 128 letters, digits, '_', '.' and '-', and begins with a letter or digit"
        raise bad(flag, text, why, f"for example {flag} web-1")
    return text


def hostname(flag: str, text: str) -> str:
    """At most 64 bytes, the kernel's limit, and only what /etc/hosts can hold. Source: hostname(7), uname(2)."""
    if not 1 <= len(text) <= 64 or text[0] in "-." or not set(text) <= WORD | set("_.-"):
        why = "a host name is 1 to 64 letters, digits, '-' and '.'"
        raise bad(flag, text, why, f"for example {flag} web-1")
    return text


def _identity(flag: str, text: str, part: str) -> None:
    """One user or group. What looks like a number is an id and must be one: never becomes a name, nor 0."""
    example = f"a name or a number: {flag} 1000"
    if not part or part[0] in "-+" or not part.isprintable() or set(part) & set(" :/,"):
        raise bad(flag, text, f"{show(part)} cannot name a user or group", example)
    if DIGITS.issuperset(part) and (len(part) > 10 or int(part) > MAX_ID):
        raise bad(flag, text, f"ids end at {MAX_ID}", example)


def user(flag: str, text: str) -> str:
    """`name`, `uid`, `name:group`, `uid:gid`. Whether it exists is for the root file system to say."""
    first, colon, group = text.partition(":")
    for part in (first, group) if colon else (first,):
        _identity(flag, text, part)
    return text


def group(flag: str, text: str) -> str:
    _identity(flag, text, text)
    return text


def capability(flag: str, text: str) -> str:
    """`ALL`, or a name with or without CAP_, in any case. Source: capabilities(7)."""
    from kist.plan.facts import CAPABILITIES

    name = text.upper().removeprefix("CAP_")
    if name == "ALL":
        return name
    if f"CAP_{name}" not in CAPABILITIES:
        close = nearest(name, (c.removeprefix("CAP_") for c in CAPABILITIES)) or "NET_RAW"
        raise bad(flag, text, "there is no such capability (see capabilities(7))", f"for example {flag} {close}")
    return f"CAP_{name}"


def signal_number(flag: str, text: str) -> int:
    """A name with or without SIG in any case, `RTMIN+n`, `RTMAX-n`, or a number. Source: signal(7)."""
    name = text.upper().removeprefix("SIG")
    value = integer(text) if DIGITS.issuperset(text) else None
    if name in _SIGNALS:
        value = _SIGNALS.index(name) + 1
    elif name.startswith(("RTMIN", "RTMAX")):
        offset = integer(name[5:] or "+0") if name[5:6] in ("", "+", "-") else None
        value = None if offset is None else offset + (_SIGRTMIN if name[4] == "N" else _SIGRTMAX)
        value = value if value is not None and value >= _SIGRTMIN else None
    if value is None or not 1 <= value <= _SIGRTMAX:
        close = nearest(name, _SIGNALS) or "TERM"
        raise bad(flag, text, "there is no such signal (see signal(7))", f"a name or number: {flag} SIG{close}")
    return value


def without(flag: str, text: str) -> tuple[str, ...]:
    """One or more keys of PROTECTIONS, separated by commas."""
    words = tuple(text.split(","))
    for word in words:
        if word not in PROTECTIONS:
            raise bad(flag, text, f"{show(word)} is not a protection", f"one of: {', '.join(PROTECTIONS)}")
    return words


def image(flag: str, text: str) -> str:
    if text[:1] in ("/", ".", "~"):
        raise bad(flag, text, "it is a path, not the name of an image", f"kist run --rootfs {show(text)} ...")
    if not text or not text.isprintable() or " " in text:
        raise bad(flag, text, "it is not the name of an image", "for example: host, or a name from 'kist images'")
    return text


# --- key=value


def ulimit(flag: str, text: str) -> Ulimit:
    """`NAME=SOFT[:HARD]`, -1 or `unlimited` for no limit. Source: getrlimit(2)."""
    from kist.plan.steps import RLIMITS

    name, _, limits = text.partition("=")
    if name not in RLIMITS:
        raise bad(flag, text, f"{show(name)} is not a limit", f"one of: {', '.join(RLIMITS)}; {flag} nofile=1024:2048")
    soft_text, colon, hard_text = limits.partition(":")
    soft, hard = (
        UNLIMITED if word == "unlimited" else integer(word) for word in (soft_text, hard_text if colon else soft_text)
    )
    if soft is None or hard is None or not (-1 <= soft <= INT64 and -1 <= hard <= INT64):
        raise bad(flag, text, "a limit is not a number, -1 or 'unlimited'", f"for example {flag} {name}=1024:2048")
    if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
        raise bad(flag, text, "the soft limit is above the hard limit", f"{flag} {name}={hard}:{hard}")
    return Ulimit(name=name, soft=soft, hard=hard)


def sysctl(flag: str, text: str) -> tuple[str, str]:
    """`KEY=VALUE` with dots: no path out of /proc/sys. Which keys a container may set is for the compiler to say."""
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or len(parts) < 2 or not all(p and set(p) <= WORD | set("_-") for p in parts):
        raise bad(flag, text, "it is not KEY=VALUE with a key of dotted words", f"{flag} net.ipv4.ip_forward=1")
    if not value.replace("\t", " ").isprintable():
        raise bad(flag, text, "the value is not one printable line", f"{flag} {key}=1")
    return key, value


def label(flag: str, text: str) -> tuple[str, str]:
    """`KEY[=VALUE]`: a key has no white space. Labels are inert."""
    key, _, value = text.partition("=")
    key = key.lstrip(" \t")
    if not key or " " in key or "\t" in key:
        raise bad(flag, text, "the key is empty or has white space", f"for example {flag} stage=test")
    return key, value


def storage_size(flag: str, text: str) -> int | None:
    key, _, value = text.partition("=")
    if key != "size":
        raise later(flag, text, "'size' is the only storage option", f"{flag} size=10g")
    return size_or_unset(flag, value)


def address(flag: str, text: str, ip: str) -> str:
    """An IPv4 or IPv6 address, kept as it was written. A zone (`fe80::1%eth0`) is allowed."""
    from ipaddress import ip_address  # only when a flag needs it

    try:
        ip_address(ip)
    except ValueError:
        raise bad(flag, text, f"{show(ip)} is not an IP address", "for example 192.0.2.1 or 2001:db8::1") from None
    if not set(ip) <= WORD | set(".:%-_"):
        raise bad(flag, text, "the zone is not the name of an interface", "for example fe80::1%eth0")
    return ip


def dns(flag: str, text: str) -> str:
    return address(flag, text, text)


HOST_GATEWAY = "host-gateway"


def add_host(flag: str, text: str) -> tuple[str, str]:
    """`HOST:IP` or `HOST=IP`; the address may be in brackets, or HOST_GATEWAY: see engine/prepare.py."""
    host, sep, ip = text.partition("=" if "=" in text else ":")
    if not sep or not host or not set(host) <= WORD | set("_.-"):
        raise bad(flag, text, "it is not HOST:IP", f"for example {flag} db:192.0.2.7")
    if ip == HOST_GATEWAY:
        return host, ip
    return host, address(flag, text, ip[1:-1] if ip[:1] == "[" and ip[-1:] == "]" else ip)


def dns_search(flag: str, text: str) -> str:
    if text != "." and (not 1 <= len(text) <= 254 or text[0] in ".-" or not set(text) <= WORD | set("_.-")):
        raise bad(flag, text, "it is not a domain", f"for example {flag} example.org, or {flag} . for none")
    return text


def dns_option(flag: str, text: str) -> str:
    """One word of resolv.conf(5) `options`."""
    if not text or not set(text) <= WORD | set("_-:."):
        raise bad(flag, text, "it is not an option of resolv.conf(5)", f"for example {flag} ndots:2")
    return text


def network(flag: str, text: str) -> str:
    """ "none", "host", a namespace that exists, pasta with options, or the name of a network; "bridge" is that of the
    default one."""
    if text.startswith(JOINS):
        return joined(flag, text)
    if text == "pasta" or text.startswith("pasta:"):
        return text
    return "bridge" if text == "default" else container_name(flag, text)


def joined(flag: str, text: str) -> str:
    """`container:NAME` or `ns:PATH`: a namespace that exists."""
    kind, _, what = text.partition(":")
    if kind == "container" and not what:
        raise bad(flag, text, "the container is missing", f"{flag} container:web")
    if kind == "ns" and not what.startswith("/"):
        raise bad(flag, text, "the path is not absolute", f"{flag} ns:/run/netns/blue")
    return text


_BITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def net_rate(flag: str, text: str) -> NetRate:
    """`10mbit`, or `in=10mbit,out=1gbit`; 0: no limit. As tc(8) has it, k is 1,000."""
    found = {"in": 0, "out": 0}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        number = (value if equals else part).lower().removesuffix("bit")
        digits = number.rstrip("kmg")
        bits = int(digits) * _BITS.get(number[len(digits) :], 0) if 0 < len(digits) < 10 and digits.isdigit() else -1
        wrong = (equals and key not in found) or (bits != 0 and not 8_000 <= bits <= 10**12)
        if wrong or not digits.isascii():
            raise bad(flag, text, "it is no rate from 8kbit to 1000gbit", "10mbit, or in=10mbit,out=1gbit")
        found |= {key: bits // 8} if equals else {"in": bits // 8, "out": bits // 8}
    return NetRate(found["in"], found["out"])


def mac_address(flag: str, text: str) -> bytes:
    """Six bytes in hexadecimal, of one device: neither a group's nor zero."""
    words = text.replace("-", ":").split(":")
    if len(words) != 6 or not all(len(word) == 2 and set(word) <= set("0123456789abcdefABCDEF") for word in words):
        raise bad(flag, text, "a MAC address is six pairs of hexadecimal digits", f"{flag} 02:42:ac:11:00:02")
    mac = bytes.fromhex("".join(words))
    if mac[0] & 1 or not any(mac):
        raise bad(flag, text, "this is no address of a single device", f"{flag} 02:42:ac:11:00:02")
    return mac


def publish(flag: str, text: str) -> Publish:
    """See plan.publish, which few runs need."""
    from kist.plan.publish import publish

    return publish(flag, text)


def expose(flag: str, text: str) -> Publish:
    from kist.plan.publish import expose

    return expose(flag, text)


def allow_net(flag: str, text: str) -> tuple[AllowRule, ...]:
    from kist.plan.egress import allow_net

    return allow_net(flag, text)


def ipv4(flag: str, text: str) -> bytes:
    return _ip(flag, text, 4)


def ipv6(flag: str, text: str) -> bytes:
    return _ip(flag, text, 6)


def _ip(flag: str, text: str, version: int) -> bytes:
    from ipaddress import ip_address

    try:
        found = ip_address(text)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise bad(
            flag, text, f"it is not an IPv{version} address", f"{flag} {'10.1.0.9' if version == 4 else 'fd00::9'}"
        )
    return found.packed


def namespace(*words: str) -> Callable[[str, str], str]:
    """A namespace mode. `container:NAME` and `ns:PATH` only where "join" is among the words."""
    parse = choice(*[word for word in words if word != "join"])

    def mode(flag: str, text: str) -> str:
        if text.startswith(JOINS) and "join" in words:
            return joined(flag, text)
        if text.startswith("container:"):
            raise later(flag, text, "joining another container's namespace comes later", f"one of: {', '.join(words)}")
        return parse(flag, text) if text else text

    return mode


def stream(flag: str, text: str) -> str:
    return choice("stdin", "stdout", "stderr")(flag, text.lower())


def detach_keys(flag: str, text: str) -> bytes:
    """`ctrl-p,ctrl-q`: letters, or ctrl- with a-z @ [ \\ ] ^ _."""
    keys = bytearray()
    for word in text.split(","):
        control = word[5:] if word.startswith("ctrl-") else ""
        if len(word) == 1 and " " < word <= "~":
            keys += word.encode()
        elif len(control) == 1 and control in _LOWER + "@[\\]^_":
            keys.append(ord(control.upper()) & 0x1F)
        else:
            raise bad(flag, text, f"{show(word)} is not a key", f"for example {flag} ctrl-p,ctrl-q")
    return bytes(keys)


# --- environment and labels from files

# unicode.IsSpace of Go, which trims the left of a line. Python's str.lstrip takes \x1c to \x1f too.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


def env(flag: str, text: str, environ: Mapping[str, str]) -> str:
    """`KEY=VALUE`; `KEY` takes the caller's value, and stays a bare `KEY` if there is none."""
    key, equals, _ = text.partition("=")
    if not key:
        raise bad(flag, text, "the name is empty", f"for example {flag} KEY=value, or {flag} KEY for your own value")
    return text if equals or key not in environ else f"{key}={environ[key]}"


def key_value_lines(flag: str, name: str, content: str) -> tuple[str, ...]:
    """The lines of an --env-file or --label-file that say something: `KEY=VALUE` or `KEY`.

    `#` starts a comment only at the start of a line, quotes mean nothing, spaces at the end belong to the value.
    """
    lines = []
    for count, raw in enumerate(content.removeprefix("\ufeff").split("\n"), 1):
        line = raw.removesuffix("\r").lstrip(_SPACE)
        if not line or line[0] == "#":
            continue
        key = line.partition("=")[0]
        if not key or " " in key or "\t" in key:
            raise bad(flag, name, f"line {count}: the name {show(key)} is empty or has white space", "KEY=VALUE")
        lines.append(plain(flag, line))
    return tuple(lines)


def merge_env(entries: Iterable[str]) -> tuple[str, ...]:
    """Each key once, the last one wins."""
    return tuple({entry.partition("=")[0]: entry for entry in entries}.values())


# --- several flags together


def security_opt(flag: str, texts: Iterable[str], read: Callable[[str, str], str]) -> SecurityOpt:
    """All --security-opt: `KEY=VALUE` or `KEY:VALUE`. `read(flag, path)` gives the content of a seccomp profile."""
    keys = "seccomp=FILE, no-new-privileges, systempaths=unconfined, apparmor=PROFILE, label=disable"
    seccomp, no_new_privileges, systempaths, apparmor = "default", True, False, ""
    labels: list[str] = []
    for text in texts:
        key, separator, value = text.partition("=" if "=" in text else ":")
        if key == "no-new-privileges":
            no_new_privileges = boolean(f"{flag} {key}", value) if separator else True
        elif not value or key not in ("seccomp", "systempaths", "apparmor", "label"):
            raise bad(flag, text, f"{show(key)} is not an option, or has no value", f"one of: {keys}")
        elif key == "systempaths":
            systempaths = choice("unconfined")(f"{flag} {key}", value) == "unconfined"
        elif key == "apparmor":
            apparmor = value
        elif key == "label":
            labels.append(value)
        elif value in ("default", "builtin", "unconfined"):
            seccomp = "unconfined" if value == "unconfined" else "default"
        else:
            seccomp = read(flag, value)
            if not seccomp.lstrip().startswith("{"):  # so that no file can say "unconfined"
                raise bad(flag, text, "the file is not a seccomp profile in JSON", "one that begins with {")
    return SecurityOpt(
        seccomp=seccomp,
        no_new_privileges=no_new_privileges,
        systempaths_unconfined=systempaths,
        apparmor=apparmor,
        label=tuple(labels),
    )


def check(request: RunRequest) -> None:
    """Raises InvalidInput where flags contradict each other. What the host allows is for the compiler to check."""

    def refuse(wrong: bool, flag: str, why: str, write: str) -> None:
        if wrong:
            raise InvalidInput("it contradicts another flag", path=flag, why=why, next=f"write {write}")

    limit, swap, soft = request.memory_bytes, request.memory_swap_bytes, request.memory_reservation_bytes
    if swap is not None and swap != UNLIMITED:
        refuse(limit is None, "--memory-swap", "it counts memory and swap together, so it needs --memory", "both")
        why = "it is below --memory, but counts memory and swap together"
        refuse(limit is not None and swap < limit, "--memory-swap", why, "at least as much as --memory")
    if soft is not None and limit is not None:
        refuse(soft > limit, "--memory-reservation", "the soft limit is above --memory", "at most as much as --memory")
    both = request.cpus is not None and (request.cpu_period_us or request.cpu_quota_us) is not None
    refuse(both, "--cpus", "--cpu-quota and --cpu-period say the same", "one or the other")
    named = request.uts == "host" and (request.hostname or request.domainname)
    refuse(bool(named), "--hostname", "with --uts host it would rename the host", "it without --uts host")
    timeless = request.time_offset is not None and "timens" in request.without
    refuse(timeless, "--time-offset", "--without timens leaves no clocks of its own", "one or the other")
    alone = bool(request.more_networks) and not request.in_networks
    alone = alone or any(
        name in ("none", "host") or name.startswith((*JOINS, "pasta")) for name in request.more_networks
    )
    refuse(
        alone, "--network", "none, host, pasta and the namespaces of others go with no other network", "one --network"
    )
    if request.allow_net:
        way = "a container with --allow-net has no other way out than what is on that list"
        refuse(request.network != "none", "--network", way, "one or the other")
        powers = {"ALL", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE"} & {*request.cap_add}
        why = "it could enter the host's network, so that --allow-net would mean nothing"
        refuse(request.privileged, "--privileged", why, "--cap-add with what it needs")
        refuse(
            bool(powers) and request.pid not in ("", "private"), "--cap-add", why, "one of the two less, or no --pid"
        )
    seen: set[str] = set()
    for flag, requests in (("--volume", request.volumes), ("--mount", request.mounts), ("--tmpfs", request.tmpfs)):
        for target in (r.target for r in requests):
            if target in seen:
                raise bad(flag, target, "something else is mounted there already", "each target once")
            seen.add(target)
