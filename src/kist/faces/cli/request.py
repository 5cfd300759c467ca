"""From texts by flag to a RunRequest. What needs the caller's files, environment or directory is read here.

`kist.run()` may use it too: its keywords are the flags' names.
"""

from __future__ import annotations

from kist.errors import InvalidInput, NotFound
from kist.faces.cli.command import Flag
from kist.faces.cli.flags import RUN_GROUPS
from kist.plan import mount_values, values, words
from kist.plan.request import RunRequest
from kist.system import os
from kist.value import Value, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_MAX_FILE_BYTES = 1 << 20


class Caller(Value):
    """Where flags' texts come from. `directory` is only asked when a path is relative to it: it may be gone."""

    environ: Mapping[str, str]
    directory: Callable[[], str]
    read: Callable[[str, str], str]  # (flag, path) -> content


def this_process() -> Caller:
    return Caller(environ=os.environ, directory=_directory, read=read_text)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError as e:
        why = f"the working directory: {e.strerror}"
        raise NotFound("cannot tell where a relative path begins", why=why, next="cd to a directory that exists") from e


def read_text(flag: str, path: str) -> str:
    """A small text file that a flag names; a pipe is fine too.

    Raises NotFound or InvalidInput.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as e:
        raise NotFound(f"{flag}: cannot read {words.show(path)}", why="there is no such file") from e
    except OSError as e:
        raise InvalidInput(f"cannot read {words.show(path)}", path=flag, why=e.strerror or str(e)) from e
    if len(data) > _MAX_FILE_BYTES:
        raise words.bad(flag, path, "the file is larger than 1 MiB", "a smaller file")
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise words.bad(flag, path, f"line {line} of the file is not valid UTF-8", "it in UTF-8") from e


_OF_A_CABLE = ("publish", "publish_all", "ip", "ip6", "mac_address", "network_alias", "net_rate")  # without --network


def run_request(
    given: Mapping[str, Sequence[str]], arguments: Sequence[str], caller: Caller, *, captured: bool = False
) -> RunRequest:
    """`captured`: its output is kept and not shown, and it always has an input.

    Raises InvalidInput, NotFound or Unsupported; each names the flag.
    """
    fields: dict[str, object] = {}
    for _, flags in RUN_GROUPS:
        for flag in flags:
            if flag.name in given and flag.parse is not None:
                fields[flag.request_field] = _value(flag, given[flag.name])
    fields |= _from_caller(given, caller)
    if "rootfs" in fields:
        fields["command"] = tuple(arguments)
    elif arguments:
        fields["image"] = values.image("IMAGE", arguments[0])
        fields["command"] = tuple(arguments[1:])
    else:
        next_ = "write kist run host, or kist run --rootfs DIR"
        raise InvalidInput("what to run is missing", path="IMAGE", next=next_, code="usage")
    if captured:
        fields["interactive"] = True
    if "network" not in fields and not fields.get("allow_net") and any(map(fields.get, _OF_A_CABLE)):
        fields["network"] = "bridge"
    request = build(RunRequest, {k: v for k, v in fields.items() if v is not None})
    values.check(request)
    return request


def _value(flag: Flag, texts: Sequence[str]) -> object:
    name = f"--{flag.name}"
    assert flag.parse is not None
    if flag.kind == "map":
        return dict(v for v in (flag.parse(name, text) for text in texts) if isinstance(v, tuple))
    parsed = [flag.parse(name, text) for text in texts]
    if flag.kind == "words":
        return tuple(dict.fromkeys(word for v in parsed if isinstance(v, tuple) for word in v))
    return tuple(parsed) if flag.kind == "many" else parsed[-1]


def environment(given: Mapping[str, Sequence[str]], caller: Caller) -> tuple[str, ...]:
    """--env-file, and over it --env. Raises NotFound, InvalidInput."""
    from_files = (values.env("--env-file", line, caller.environ) for line in _lines(given, caller, "env-file"))
    entries = [entry for entry in from_files if "=" in entry]
    entries += [values.env("--env", text, caller.environ) for text in given.get("env", ())]
    return values.merge_env(words.plain("--env", entry) for entry in entries)


def _lines(given: Mapping[str, Sequence[str]], caller: Caller, flag: str) -> Iterator[str]:
    for path in given.get(flag, ()):
        yield from values.key_value_lines(f"--{flag}", path, caller.read(f"--{flag}", path))


def _from_caller(given: Mapping[str, Sequence[str]], caller: Caller) -> dict[str, object]:
    """The fields of flags without a `parse` of their own."""

    def path(flag: str, text: str) -> str:
        return mount_values.host_path(f"--{flag}", text, text, _base(text, caller))

    fields: dict[str, object] = {}
    if "env" in given or "env-file" in given:
        fields["env"] = environment(given, caller)
    if "label" in given or "label-file" in given:
        pairs = [values.label("--label-file", line) for line in _lines(given, caller, "label-file")]
        fields["labels"] = dict(pairs + [values.label("--label", text) for text in given.get("label", ())])
    if "volume" in given:
        volumes = given["volume"]
        fields["volumes"] = tuple(mount_values.volume("--volume", t, _base(t, caller)) for t in volumes)
    if "mount" in given:
        # Whether a source in here is relative is known only after parsing.
        fields["mounts"] = tuple(mount_values.mount("--mount", t, caller.directory()) for t in given["mount"])
    if "security-opt" in given:
        fields["security_opt"] = values.security_opt("--security-opt", given["security-opt"], caller.read)
    if "network" in given:
        chosen = dict.fromkeys(values.network("--network", text) for text in given["network"])
        fields["network"], *more = chosen
        fields["more_networks"] = tuple(more)
    if "entrypoint" in given:
        program = given["entrypoint"][-1]
        fields["entrypoint"] = (program,) if program else ()
    for flag in ("rootfs", "cidfile"):
        if flag in given:
            fields[flag] = path(flag, given[flag][-1])
    return fields


def _base(path: str, caller: Caller) -> str:
    return "/" if path.startswith("/") else caller.directory()
