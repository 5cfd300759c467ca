"""Instructions of a Dockerfile that change nothing but an image's config: `kist commit --change`. Pure.

Source: Dockerfile reference; docker commit, "--change".
"""

from __future__ import annotations

from kist.codec import loads
from kist.errors import InvalidInput
from kist.plan.words import bad, nearest, show
from kist.spec.image import ContainerConfig, Empty
from kist.value import replace

_KNOWN = ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")


def apply_change(config: ContainerConfig, flag: str, text: str) -> ContainerConfig:
    """`CMD ["sh"]`, `ENV A=b`, `USER web` and so on. Raises InvalidInput."""
    word, _, rest = text.strip().partition(" ")
    name, rest = word.upper(), rest.strip()
    if name not in _KNOWN:
        close = nearest(name, _KNOWN)
        raise bad(flag, text, f"{show(word)} changes no image's config", f"one of: {close or ', '.join(_KNOWN)}")
    if not rest:
        raise bad(flag, text, "it says nothing", f"{name} and what it is to be")
    if name in ("CMD", "ENTRYPOINT"):
        words = _list(flag, text, rest)
        argv = words if words is not None else ("/bin/sh", "-c", rest)
        # As in a build, an entry point takes away the command that was meant for another.
        return replace(config, cmd=argv) if name == "CMD" else replace(config, entrypoint=argv, cmd=())
    if name in ("ENV", "LABEL"):
        pairs = dict(_pairs(flag, text, rest))
        if name == "LABEL":
            return replace(config, labels={**config.labels, **pairs})
        kept = tuple(pair for pair in config.env if pair.partition("=")[0] not in pairs)
        return replace(config, env=(*kept, *(f"{key}={value}" for key, value in pairs.items())))
    if name == "EXPOSE":
        ports = {(port if "/" in port else f"{port}/tcp"): Empty() for port in rest.split()}
        return replace(config, exposed_ports={**config.exposed_ports, **ports})
    if name == "VOLUME":
        words = _list(flag, text, rest)
        paths = words if words is not None else tuple(rest.split())
        return replace(config, volumes={**config.volumes, **{path: Empty() for path in paths}})
    if name == "WORKDIR":
        joined = rest if rest.startswith("/") else f"{config.working_dir.rstrip('/')}/{rest}"
        return replace(config, working_dir=joined)
    if name == "USER":
        return replace(config, user=rest)
    return (
        replace(config, stop_signal=rest)
        if name == "STOPSIGNAL"
        else replace(config, on_build=(*config.on_build, rest))
    )


def _list(flag: str, text: str, rest: str) -> tuple[str, ...] | None:
    """The exec form, a JSON array; None for anything else."""
    if not rest.startswith("["):
        return None
    try:
        found = loads(rest.encode(), flag)
    except InvalidInput as e:
        raise bad(flag, text, "it begins as a JSON array and is none", '["a", "b"]') from e
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise bad(flag, text, "it is no list of strings", '["a", "b"]')
    return tuple(found)


def _pairs(flag: str, text: str, rest: str) -> list[tuple[str, str]]:
    """`A=b C="d e"`, or the old form `A b c`."""
    import shlex

    try:
        words = shlex.split(rest)
    except ValueError as e:
        raise bad(flag, text, str(e).lower(), "quotes in pairs") from e
    if "=" not in words[0]:
        key, _, value = rest.partition(" ")
        return [(key, value.strip())]
    if not all(word.partition("=")[0] and "=" in word for word in words):
        raise bad(flag, text, "there is a word without =", 'KEY=VALUE, or KEY="A VALUE"')
    return [word.partition("=")[::2] for word in words]
