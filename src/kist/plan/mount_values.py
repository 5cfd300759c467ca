"""From text to values, for flags that name paths: --volume, --mount, --tmpfs, --device and limits of block devices.

Pure: a relative path of the host is joined to the caller's working directory, which is given; links are not looked at.
posixpath is imported where it is needed: it imports os, which not every `kist run` does (kist/system.py).
"""

from kist.errors import InvalidInput
from kist.plan.request import DeviceRate, DeviceRequest, DeviceRule, MountRequest, SecretRequest
from kist.plan.setting import SECRETS
from kist.plan.values import INT64, WORD, label, size
from kist.plan.words import UNLIMITED, bad, boolean, integer, later, nearest, show

_PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
_VOLUME_OPTIONS = ("ro", "rw", "z", "Z", *_PROPAGATIONS)
_CONSISTENCY = ("consistent", "cached", "delegated", "default")  # Docker Desktop's; they mean nothing on Linux
# tmpfs(5) and mount(8): words, and key=value
# fmt: off
_TMPFS_WORDS = frozenset((
    "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "atime", "noatime", "diratime", "nodiratime",
    "relatime", "norelatime", "strictatime", "nostrictatime",
))
# fmt: on
_TMPFS_KEYS = frozenset({"uid", "gid", "nr_inodes", "nr_blocks", "size", "mode", "mpol", "huge"})


def inside(flag: str, text: str, path: str) -> str:
    """A path of the container: absolute; returned without `.`, `..` and double slashes."""
    if not path.startswith("/"):
        raise bad(flag, text, f"{show(path)} is not an absolute path inside the container", "a path that begins with /")
    from posixpath import normpath

    return "/" + normpath(path).lstrip("/")


def workdir(flag: str, text: str) -> str:
    return inside(flag, text, text)


def host_path(flag: str, text: str, path: str, cwd: str) -> str:
    """A path of the host, made absolute."""
    if not path:
        raise bad(flag, text, "the path is empty", "a path")
    if path == "~" or path.startswith("~/"):
        raise bad(flag, text, "the shell expands ~ only at the start of a word", 'it with "$HOME"')
    from posixpath import join, normpath

    return "/" + normpath(join(cwd, path)).lstrip("/")


def cgroup_parent(flag: str, text: str) -> str:
    """A path below the cgroup root, or a systemd slice. Never out of the tree (`..`)."""
    parts = text.split("/")
    if not text.strip("/") or ".." in parts or "." in parts or not text.isprintable():
        raise bad(flag, text, "it must stay below the cgroup root", f"for example {flag} /my/group")
    return text


# --- mounts


def _target(flag: str, text: str, path: str) -> str:
    target = inside(flag, text, path)
    if target == "/":
        raise bad(flag, text, "nothing can be mounted over the container's root", "another path, or use --rootfs")
    return target


def volume(flag: str, text: str, cwd: str) -> MountRequest:
    """`[SOURCE:]TARGET[:OPTIONS]`. A source that begins with `/` or `.` is a path, anything else the name of a volume;
    without one the container gets a volume of its own."""
    example = f"{flag} ./data:/data:ro or {flag} NAME:/data"
    parts = text.split(":")
    if "" in parts or len(parts) > 3:
        raise bad(flag, text, "it is not [SOURCE:]TARGET[:OPTIONS]", example)
    if len(parts) == 1:
        return MountRequest(kind="volume", target=_target(flag, text, parts[0]))
    named = parts[0][0] not in "/.~"
    options = [o for o in (parts[2].split(",") if len(parts) == 3 else []) if o not in _CONSISTENCY]
    known = (*_VOLUME_OPTIONS, *(("nocopy",) if named else ()))
    for option in options:
        if option not in known:
            raise bad(flag, text, f"{show(option)} is not an option", f"options of: {', '.join(known)}")
    chosen = [[o for o in options if o in kind] for kind in (("ro", "rw"), ("z", "Z"), _PROPAGATIONS)]
    if any(len(kind) > 1 for kind in chosen):
        raise bad(flag, text, "its options contradict each other", f"one of each kind: {example}")
    access, relabel, propagation = ("".join(kind) for kind in chosen)
    return MountRequest(
        kind="volume" if named else "bind",
        source=volume_name(flag, parts[0]) if named else host_path(flag, text, parts[0], cwd),
        target=_target(flag, text, parts[1]),
        readonly=access == "ro",
        relabel=relabel,
        propagation=propagation,
        create_source=not named,
        nocopy="nocopy" in options,
    )


def volume_name(flag: str, text: str) -> str:
    """As docker's: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. It names a directory."""
    if not 2 <= len(text) <= 200 or text[0] not in WORD or not set(text) <= WORD | set("_.-"):
        why = "a volume's name is 2 to 200 letters, digits, '_', '.' and '-', and begins with a letter or digit"
        raise bad(flag, text, why, "such a name; for a directory a path: ./data")
    return text


def tmpfs(flag: str, text: str) -> MountRequest:
    """`TARGET[:OPTIONS]`, options as in tmpfs(5) and mount(8)."""
    path, _, option_text = text.partition(":")
    size_bytes: int | None = None
    mode: int | None = None
    readonly = False
    options = []
    for option in option_text.split(",") if option_text else ():
        key, equals, value = option.partition("=")
        if option in ("ro", "rw"):
            readonly = option == "ro"
        elif key == "size" and not value.endswith("%"):
            size_bytes = size(flag, value)
        elif key == "mode" and equals:
            mode = _permissions(flag, text, value)
        elif option in _TMPFS_WORDS or (equals and key in _TMPFS_KEYS and value and value.isprintable()):
            options.append(option)
        else:
            raise bad(
                flag, text, f"{show(option)} is not an option of tmpfs", f"{flag} {path or '/tmp'}:size=64m,noexec"
            )
    return MountRequest(
        kind="tmpfs",
        target=_target(flag, text, path),
        readonly=readonly,
        options=tuple(options),
        size_bytes=size_bytes or None,
        mode=mode,
    )


def _permissions(flag: str, text: str, value: str) -> int:
    if not value or len(value) > 5 or not set(value) <= set("01234567") or int(value, 8) > 0o7777:
        raise bad(flag, text, f"{show(value)} is not an octal mode", "for example mode=1777")
    return int(value, 8)


def csv_fields(flag: str, text: str) -> list[str]:
    """One record of RFC 4180: fields may be in double quotes, a quote inside is doubled."""
    fields = []
    rest: str | None = text
    while rest is not None:
        if rest.startswith('"'):
            pieces = rest[1:].replace('""', "\0").partition('"')
            field, tail = pieces[0].replace("\0", '"'), pieces[2].replace("\0", '""')
            if not pieces[1] or tail[:1] not in ("", ","):
                raise bad(flag, text, "a double quote has no partner", "a field with a comma as '\"source=a,b\"'")
            rest = tail[1:] if tail else None
        else:
            field, comma, tail = rest.partition(",")
            if '"' in field:
                raise bad(flag, text, "a double quote is in the middle of a field", "quotes around the whole key=value")
            rest = tail if comma else None
        fields.append(field)
    return fields


_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_MOUNT_FLAGS = ("readonly", "bind-create-src", "volume-nocopy")  # keys that need no value
_MOUNT_MAPS = ("volume-label", "volume-opt")  # keys that may be there several times
_MOUNT_KEYS = {
    "any": ("type", "source", "target", "readonly", "consistency"),
    "bind": ("bind-propagation", "bind-recursive", "bind-create-src"),
    "tmpfs": ("tmpfs-size", "tmpfs-mode"),
    "volume": ("volume-subpath", "volume-nocopy", "volume-label", "volume-driver", "volume-opt"),
    "image": ("image-subpath",),
}


def _mount_options(flag: str, text: str) -> dict[str, str]:
    known = [key for keys in _MOUNT_KEYS.values() for key in keys]
    given: dict[str, str] = {}
    for field in csv_fields(flag, text.strip()):
        word, equals, value = field.partition("=")
        key = _ALIASES.get(word.lower(), word.lower())
        if key not in known:
            close = nearest(key, known) or "target"
            raise bad(flag, text, f"{show(word)} is not a key", f"{close}=..., or one of: {', '.join(known)}")
        if not equals and key not in _MOUNT_FLAGS:
            raise bad(flag, text, f"{show(word)} has no value", f"{word}=...")
        if equals and (not value or value != value.strip()):
            raise bad(flag, text, f"the value of {show(word)} is empty or has white space around it", f"{word}=...")
        value = value if equals else "true"
        given[key] = f"{given[key]}\0{value}" if key in _MOUNT_MAPS and key in given else value
    return given


def mount(flag: str, text: str, cwd: str) -> MountRequest:
    """`type=bind,source=...,target=...[,KEY=VALUE]`; without a type it is a volume."""
    given = _mount_options(flag, text)
    kind = given.get("type", "volume").lower()
    example = f"{flag} type=bind,source=/srv,target=/srv,readonly"
    if kind not in ("bind", "tmpfs", "volume", "image"):
        raise bad(flag, text, f"{show(kind)} is not a type", f"type=bind or type=tmpfs: {example}")
    for key in given:
        if key not in _MOUNT_KEYS["any"] and key not in _MOUNT_KEYS[kind]:
            raise bad(flag, text, f"{show(key)} is not for type={kind}", f"it without {show(key)}")
    if "target" not in given:
        raise bad(flag, text, "there is no target", example)
    if kind == "image":
        raise later(flag, text, f"mounts of type={kind} come later", f"use a directory: {example}")
    if kind == "bind":
        return _bind(flag, text, given, cwd)
    if kind == "volume":
        return _volume(flag, text, given)
    if "source" in given:
        raise bad(flag, text, "a tmpfs has no source", "it without source")
    return MountRequest(
        kind=kind,
        target=_target(flag, text, given["target"]),
        readonly=_flag(flag, text, given, "readonly"),
        size_bytes=size(flag, given["tmpfs-size"]) or None if "tmpfs-size" in given else None,
        mode=_permissions(flag, text, given["tmpfs-mode"]) if "tmpfs-mode" in given else None,
    )


def _volume(flag: str, text: str, given: dict[str, str]) -> MountRequest:
    source, subpath = given.get("source", ""), given.get("volume-subpath", "")
    if source.startswith(("/", ".", "~")):
        raise bad(flag, text, "the source is a path, not the name of a volume", "type=bind for a directory")
    if given.get("volume-driver", "local") != "local":
        raise bad(flag, text, "there is no driver but local", "it without volume-driver")
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise bad(flag, text, "volume-subpath leads out of the volume", "a path below it, without ..")
    return MountRequest(
        kind="volume",
        source=volume_name(flag, source) if source else "",
        target=_target(flag, text, given["target"]),
        readonly=_flag(flag, text, given, "readonly"),
        subpath=subpath,
        nocopy=_flag(flag, text, given, "volume-nocopy"),
        labels=dict(label(flag, pair) for pair in given.get("volume-label", "").split("\0") if pair),
        driver_options=dict(driver_option(flag, pair) for pair in given.get("volume-opt", "").split("\0") if pair),
    )


def driver_option(flag: str, text: str) -> tuple[str, str]:
    """`KEY=VALUE` of --opt: type, o or device, as mount(8) has them."""
    key, equals, value = text.partition("=")
    if key not in ("type", "o", "device") or not equals:
        raise bad(flag, text, "the driver local does not know it", "type=..., o=... or device=...")
    return key, value


def volumes_from(flag: str, text: str) -> tuple[str, bool]:
    """`CONTAINER[:ro|rw]`."""
    name, colon, access = text.partition(":")
    if not name or (colon and access not in ("ro", "rw", "z", "Z")):
        raise bad(flag, text, "it is not CONTAINER[:ro|rw]", f"{flag} web:ro")
    return name, access == "ro"


def secret(flag: str, text: str) -> SecretRequest:
    """`NAME[,target=PATH][,mode=OCTAL][,uid=UID][,gid=GID]`. Source: podman run --secret."""
    name, *fields = csv_fields(flag, text)
    name = name.removeprefix("source=")
    example = f"{flag} NAME,target=password,mode=0400"
    given = {"target": name, "mode": "444", "uid": "0", "gid": "0", "type": "mount"}
    for field in fields:
        key, equals, value = field.partition("=")
        if key not in given or not equals or not value:
            raise bad(flag, text, f"{show(field)} is none of type=mount, target, mode, uid, gid", example)
        given[key] = value
    if given["type"] != "mount":
        raise bad(flag, text, "a secret in the environment shows in /proc and in every child", "type=mount")
    ids = [integer(given[key]) for key in ("uid", "gid")]
    if any(n is None or not 0 <= n < 2**32 - 1 for n in ids):
        raise bad(flag, text, "uid and gid are numbers", example)
    target = inside(
        flag, text, f"{SECRETS}/{given['target']}" if not given["target"].startswith("/") else given["target"]
    )
    if not target.startswith(f"{SECRETS}/"):
        raise bad(flag, text, f"a secret is in memory, below {SECRETS}", example)
    return SecretRequest(secret_name(flag, name), target, _permissions(flag, text, given["mode"]), ids[0] or 0,
                         ids[1] or 0)  # fmt: skip


def secret_name(flag: str, text: str) -> str:
    """Letters, digits, `_`, `.` and `-`; at most 253, as podman's."""
    if not 1 <= len(text) <= 253 or text[0] not in WORD or not set(text) <= WORD | set("_.-"):
        raise bad(flag, text, "a secret's name is made of letters, digits, '_', '.' and '-'", "such a name")
    return text


def _bind(flag: str, text: str, given: dict[str, str], cwd: str) -> MountRequest:
    source, readonly = given.get("source", ""), _flag(flag, text, given, "readonly")
    propagation, recursive = given.get("bind-propagation", "").lower(), given.get("bind-recursive", "enabled")
    if not source.startswith(("/", ".", "~")):
        raise bad(flag, text, f"the source {show(source)} is not a path", "a source that begins with / or .")
    if propagation and propagation not in _PROPAGATIONS:
        raise bad(flag, text, f"{show(propagation)} is not a propagation", f"one of: {', '.join(_PROPAGATIONS)}")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        why = f"{show(recursive)} is not a value of bind-recursive"
        raise bad(flag, text, why, "one of: enabled, disabled, writable, readonly")
    if not readonly and recursive in ("writable", "readonly"):
        raise bad(flag, text, f"bind-recursive={recursive} only makes sense with readonly", "it with readonly")
    return MountRequest(
        kind="bind",
        source=host_path(flag, text, source, cwd),
        target=_target(flag, text, given["target"]),
        readonly=readonly,
        recursive=recursive != "disabled",
        writable_submounts=recursive == "writable",
        create_source=_flag(flag, text, given, "bind-create-src"),
        propagation=propagation,
    )


def _flag(flag: str, text: str, given: dict[str, str], key: str) -> bool:
    try:
        return boolean(key, given.get(key, "false"))
    except InvalidInput as e:
        raise bad(flag, text, f"{key} is neither true nor false", f"{key}, or {key}=false") from e


# --- devices


def _access(letters: str) -> str | None:
    """`letters` in the order r, w, m; None if there are others, or one twice."""
    ordered = "".join(c for c in "rwm" if c in letters)
    return ordered if ordered and len(ordered) == len(letters) else None


def device(flag: str, text: str) -> DeviceRequest:
    """`/dev/x[:/dev/y][:rwm]`."""
    example = f"{flag} /dev/fuse or {flag} /dev/sdc:/dev/disk:rw"
    if "=" in text and not text.startswith("/"):
        raise later(flag, text, "CDI device names are not understood", f"name the device node: {example}")
    parts = text.split(":")
    access: str | None = "rwm"
    if len(parts) == 3 or (len(parts) == 2 and not parts[1].startswith("/")):
        access = _access(parts.pop())
    if access is None or len(parts) > 2:
        raise bad(flag, text, "it is not SOURCE[:TARGET][:rwm]", example)
    if not parts[0].startswith("/"):
        raise bad(flag, text, f"{show(parts[0])} is not an absolute path", example)
    return DeviceRequest(
        source=host_path(flag, text, parts[0], "/"), target=_target(flag, text, parts[-1]), access=access
    )


def _rate(flag: str, text: str, example: str) -> tuple[str, str]:
    path, colon, rate = text.rpartition(":")
    if not colon or not path.startswith("/dev/") or ".." in path.split("/"):
        raise bad(flag, text, "it is not /dev/NAME:NUMBER", f"{flag} /dev/sda:{example}")
    return path, rate


def device_bps(flag: str, text: str) -> DeviceRate:
    path, rate = _rate(flag, text, "1mb")
    return DeviceRate(path=path, rate=_positive(flag, text, size(flag, rate)))


def device_iops(flag: str, text: str) -> DeviceRate:
    path, rate = _rate(flag, text, "1000")
    return DeviceRate(path=path, rate=_positive(flag, text, integer(rate) or 0))


def _positive(flag: str, text: str, rate: int) -> int:
    if not 0 < rate <= INT64:
        raise bad(flag, text, "the rate is not a number above 0", f"a rate, or leave {flag} out for no limit")
    return rate


def device_weight(flag: str, text: str) -> DeviceRate:
    path, rate = _rate(flag, text, "500")
    weight = integer(rate)
    if weight is None or not 10 <= weight <= 1000:
        raise bad(flag, text, "the weight is not between 10 and 1000", f"{flag} {path}:500")
    return DeviceRate(path=path, rate=weight)


def device_rule(flag: str, text: str) -> DeviceRule:
    """`TYPE MAJOR:MINOR ACCESS`, where numbers may be `*`. Source: kernel cgroup-v1/devices.rst."""
    kind, _, rest = text.partition(" ")
    numbers, _, letters = rest.partition(" ")
    major, minor = (UNLIMITED if n == "*" else integer(n) for n in numbers.partition(":")[::2])
    access = _access(letters)
    if kind not in ("a", "b", "c") or major is None or minor is None or access is None or set("+-") & set(numbers):
        raise bad(flag, text, "it is not 'TYPE MAJOR:MINOR ACCESS'", f"for example {flag} 'c 10:229 rwm'")
    if major >= 1 << 12 or minor >= 1 << 20:
        raise bad(flag, text, "device numbers end at 4095:1048575", f"for example {flag} 'c 10:229 rwm'")
    return DeviceRule(kind=kind, major=major, minor=minor, access=access)
