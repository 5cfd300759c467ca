"""Where a registry is, and how it is to be trusted: mirrors, plain HTTP, certificates. From others' files.

Sources: containers-registries.conf(5), version 2; containers-certs.d(5); Docker's daemon.json and /etc/docker/certs.d.
"""

from __future__ import annotations

import os

from kist.codec import loads
from kist.errors import InvalidInput, KistError, Refused
from kist.registry.proxies import is_loopback
from kist.spec.reference import DOCKER_HUB, Reference, is_domain
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FILE_BYTES_MAX = 1 << 20
_HUB = "registry-1.docker.io"  # where docker.io's registry is


def familiar_host(host: str) -> str:
    """As in image names: docker.io for Docker Hub's registry."""
    return DOCKER_HUB if host == _HUB else host


class Remote(Value):
    """A repository as one registry has it. `host` may have a port."""

    host: str
    repository: str
    insecure: bool = False  # plain HTTP and unknown certificates too
    mirror: bool = False

    @property
    def name(self) -> str:
        return f"{familiar_host(self.host)}/{self.repository}"


class Trust(Value):
    """Files of a host: authorities besides the system's, and pairs of client certificate and key."""

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


class Rule(Value):
    """A [[registry]] of registries.conf; `mirrors` are (location, insecure, wanted for: all, digest-only, tag-only)."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[tuple[str, bool, str], ...] = ()


class Hosts(Value):
    """What this machine's files say about registries."""

    rules: tuple[Rule, ...] = ()
    certificates: tuple[str, ...] = ()  # directories with one directory per HOST[:PORT]
    insecure: frozenset[str] = frozenset()  # hosts

    def trusting(self, host: str) -> Hosts:
        """With plain HTTP and unknown certificates at a host (HOST[:PORT])."""
        return replace(self, insecure=self.insecure | {self.remote(host).host})

    def remotes(self, reference: Reference, *, push: bool = False) -> list[Remote]:
        """Where to ask, in this order; the last is the registry itself. Raises Refused for a blocked one."""
        name = reference.repository
        rule = max((r for r in self.rules if _matches(r.prefix, name)), key=lambda r: len(r.prefix), default=None)
        own = self._remote(name, insecure=False)
        if rule is None:
            return [own]
        if rule.blocked:
            raise Refused(f"{name} is blocked", why="registries.conf says so", code="registry-blocked")
        rest = name[len(rule.prefix) :] if not rule.prefix.startswith("*.") else ""
        if rule.location and not rule.prefix.startswith("*."):
            own = self._remote(rule.location + rest, insecure=rule.insecure)
        elif rule.insecure:
            own = self._remote(name, insecure=True)
        if push:
            return [own]
        unwanted = "tag-only" if reference.digest else "digest-only"
        found = [self._remote(m + rest, insecure=i, mirror=True) for m, i, kind in rule.mirrors if kind != unwanted]
        return [*found, own]

    def remote(self, host: str) -> Remote:
        """The registry at `host`, no repository in mind."""
        rule = next((r for r in self.rules if r.prefix == host), None)
        return self._remote(f"{host}/", insecure=rule is not None and rule.insecure)

    def _remote(self, name: str, *, insecure: bool, mirror: bool = False) -> Remote:
        host, _, repository = name.partition("/")
        host = _HUB if host in (DOCKER_HUB, "index.docker.io") else host
        return Remote(host, repository, insecure or host in self.insecure, mirror)

    def trust(self, host: str) -> Trust:
        """Raises InvalidInput for a certificate without its key."""
        authorities: list[str] = []
        pairs: dict[str, str] = {}
        for base in self.certificates if is_domain(host) else ():
            for spelled in dict.fromkeys((host, DOCKER_HUB if host == _HUB else host)):
                _add_certificates(f"{base}/{spelled}", authorities, pairs)
        return Trust(tuple(authorities), tuple(pairs.items()))


def _add_certificates(directory: str, authorities: list[str], pairs: dict[str, str]) -> None:
    """NAME.crt is an authority, NAME.cert a client certificate whose key is NAME.key."""
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        path = f"{directory}/{name}"
        if name.endswith(".crt"):
            authorities.append(path)
        elif name.endswith(".cert"):
            if f"{name[:-5]}.key" not in names:
                raise InvalidInput(f"{path} has no key beside it", next=f"put {name[:-5]}.key there", code="tls")
            pairs[path] = f"{directory}/{name[:-5]}.key"


def plain_allowed(remote: Remote) -> bool:
    """Whether plain HTTP will do when the host does not speak TLS: loopback, or someone said so."""
    return remote.insecure or is_loopback(remote.host.rpartition(":")[0] or remote.host) or is_loopback(remote.host)


def _matches(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return name == prefix or name.startswith(f"{prefix}/") or (":" not in prefix and name.startswith(f"{prefix}:"))


def read_hosts(environ: Mapping[str, str]) -> Hosts:
    """What is set up on this machine for this user. Raises InvalidInput for a file that is not what it should be."""
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    own = f"{config}/containers/registries.conf" if config else ""
    path = environ.get("CONTAINERS_REGISTRIES_CONF") or (own if own and os.path.exists(own) else "")
    rules: dict[str, Rule] = {}
    for file in _files(path or "/etc/containers/registries.conf"):
        if text := _read(file):
            rules.update({rule.prefix: rule for rule in parse_rules(text, file)})
    hub, insecure = parse_daemon(_read("/etc/docker/daemon.json"), "/etc/docker/daemon.json")
    if hub and DOCKER_HUB not in rules:
        rules[DOCKER_HUB] = Rule(DOCKER_HUB, DOCKER_HUB, mirrors=hub)
    directories = (
        [f"{config}/containers/certs.d", f"{config}/docker/certs.d", f"{home}/.docker/certs.d"] if home else []
    )
    directories += ["/etc/containers/certs.d", "/etc/docker/certs.d"]
    return Hosts(tuple(rules.values()), tuple(directories), insecure)


def _files(path: str) -> list[str]:
    """The file, then what lies in the directory beside it, in order."""
    try:
        names = sorted(name for name in os.listdir(f"{path}.d") if name.endswith(".conf"))
    except OSError:
        names = []
    return [path, *(f"{path}.d/{name}" for name in names)]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return b""
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}", code="registries-conf") from e
    if len(data) > _FILE_BYTES_MAX:
        raise InvalidInput(f"{path} is larger than 1 MiB", code="registries-conf")
    return data


def parse_rules(data: bytes, path: str) -> list[Rule]:
    """The [[registry]] tables. Short names are Docker's, so unqualified-search-registries is not looked at."""
    import tomllib

    try:
        tables = tomllib.loads(data.decode()).get("registry", [])
        if isinstance(tables, dict):
            raise ValueError("it has the form of version 1, [registry]")
        return [_rule(table) for table in tables]
    except (ValueError, AttributeError, TypeError, KistError) as e:
        raise InvalidInput(f"{path} is not a registries.conf", why=str(e)[:300], code="registries-conf") from e


def _rule(table: dict[str, object]) -> Rule:
    def text(of: Mapping[str, object], key: str, default: str = "") -> str:
        value = of.get(key, default)
        if not isinstance(value, str):
            raise ValueError(f"{key} is not a string")
        return value

    location, mirrors = text(table, "location"), table.get("mirror", [])
    if not isinstance(mirrors, list):
        raise ValueError("mirror is not an array of tables")
    prefix = text(table, "prefix", location)
    if not prefix:
        raise ValueError("a registry has neither prefix nor location")
    kinds = "digest-only" if table.get("mirror-by-digest-only") is True else "all"
    return Rule(
        prefix.rstrip("/"),
        location.rstrip("/"),
        table.get("insecure") is True,
        table.get("blocked") is True,
        tuple(
            (_checked(text(m, "location").rstrip("/")), m.get("insecure") is True, text(m, "pull-from-mirror", kinds))
            for m in mirrors
        ),
    )


def _checked(location: str) -> str:
    if not is_domain(location.partition("/")[0]):
        raise ValueError(f"{location[:80]!r} is no location of a mirror")
    return location


def parse_daemon(data: bytes, path: str) -> tuple[tuple[tuple[str, bool, str], ...], frozenset[str]]:
    """Mirrors of Docker Hub and insecure hosts of Docker's daemon.json. Networks among the latter are not looked at."""
    document = loads(data, path) if data.strip() else {}
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} is no JSON object", code="registries-conf")

    def texts(key: str) -> Sequence[str]:
        found = document.get(key, [])
        return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []

    mirrors = []
    for text in texts("registry-mirrors"):
        scheme, _, location = text.rstrip("/").rpartition("://")
        if is_domain(location.partition("/")[0]):
            mirrors.append((location, scheme == "http", "all"))
    return tuple(mirrors), frozenset(text for text in texts("insecure-registries") if is_domain(text))
