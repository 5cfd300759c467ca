"""Names and passwords for registries, where Docker and podman keep them: config.json, auth.json, credential helpers.

Sources: docker login's documentation; containers-auth.json(5); docker/docker-credential-helpers. A password never gets
into an error, a log or a command line.
"""

from __future__ import annotations

import base64
import os

from kist.codec import dumps, loads
from kist.errors import InvalidInput, KistError
from kist.spec.reference import DOCKER_HUB
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kist.registry.helpers import Helper

_FILE_BYTES_MAX = 1 << 20
_HUB_KEY = "https://index.docker.io/v1/"  # what Docker calls docker.io in its files
_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


class Credentials(Value):
    """A user with a password, or an identity token (the registry's token server gives others for it)."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, ...)"

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def _helper(name: str) -> Helper:
    from kist.registry.helpers import Helper  # subprocess and tempfile, 10 ms of each pull

    return Helper(name)


class Keychain:
    """The credentials of one user. `files` are read in this order; login writes to the first."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files

    @classmethod
    def default(cls, environ: Mapping[str, str], authfile: str = "") -> Keychain:
        """`authfile`, or REGISTRY_AUTH_FILE, alone; else Docker's file (DOCKER_CONFIG), then podman's."""
        one = authfile or environ.get("REGISTRY_AUTH_FILE", "")
        if one:
            return cls([one])
        home, run = environ.get("HOME", ""), environ.get("XDG_RUNTIME_DIR", "")
        config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
        docker = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
        files = [f"{docker}/config.json"] if docker else []
        files += [f"{run}/containers/auth.json"] if run else []
        files += [f"{config}/containers/auth.json"] if config else []
        return cls(files)

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """The most specific that there are: podman's HOST/TEAM/APP before HOST. Raises InvalidInput, KistError."""
        for path in self._files:
            document = _read(path)
            if document and (found := self._find_in(document, path, host, repository)):
                return found
        return None

    def _find_in(self, document: dict[str, object], path: str, host: str, repository: str) -> Credentials | None:
        if helper := self._helper_of(document, host):
            for key in _keys(host):
                if found := helper.get(key):
                    user, secret = found
                    return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)
        auths = document.get("auths")
        if not isinstance(auths, dict):
            return None
        names = {_bare(key): key for key in auths if isinstance(key, str)}
        parts = repository.split("/") if repository else []
        aliases = _HUB_HOSTS if host in _HUB_HOSTS else (host,)
        for count in range(len(parts), -1, -1):
            for alias in aliases:
                key = names.get("/".join((alias, *parts[:count])), "")
                entry = auths.get(key)
                if entry:  # {}: the secret is with a helper
                    return _decoded(entry, f"{path}: auths.{key}")
        return None

    def _helper_of(self, document: dict[str, object], host: str) -> Helper | None:
        helpers, default = document.get("credHelpers"), document.get("credsStore")
        if isinstance(helpers, dict):
            for key in (*_keys(host), host):
                if isinstance(name := helpers.get(key), str) and name:
                    return _helper(name)
        return _helper(default) if isinstance(default, str) and default else None

    def store(self, host: str, credentials: Credentials) -> str:
        """Keep them; with a helper if the file names one. The path of the file, or the helper's name.

        Without a helper they are not encrypted: in base64, in a file of mode 0600. Raises KistError, InvalidInput.
        """
        path = self._first()
        document = _read(path)
        key = _keys(host)[0]
        auths = document.setdefault("auths", {})
        if not isinstance(auths, dict):
            raise InvalidInput("it must be an object", path=f"{path}: auths", code="auth-file")
        helper = self._helper_of(document, host)
        if helper:
            user = "<token>" if credentials.identity_token else credentials.user
            helper.store(key, user, credentials.identity_token or credentials.password)
            auths[key] = {}
        else:
            plain = f"{credentials.user}:{credentials.password}".encode()
            auths[key] = {"auth": base64.b64encode(plain).decode()}
            if credentials.identity_token:
                auths[key]["identitytoken"] = credentials.identity_token
        _write(path, document)
        return helper.program if helper else path

    def erase(self, host: str) -> bool:
        """Forget them, wherever they are; whether there were any. Raises KistError, InvalidInput."""
        found = False
        for path in self._files:
            document = _read(path)
            auths = document.get("auths")
            helper = self._helper_of(document, host)
            if helper:
                for key in _keys(host):
                    if helper.get(key):
                        helper.erase(key)
                        found = True
            aliases = _HUB_HOSTS if host in _HUB_HOSTS else (host,)
            gone = [key for key in auths if _bare(key) in aliases] if isinstance(auths, dict) else []
            for key in gone:
                assert isinstance(auths, dict)
                del auths[key]
            if gone:
                _write(path, document)
                found = True
        return found

    def _first(self) -> str:
        if not self._files:
            raise KistError("there is no place for credentials", why="neither HOME nor DOCKER_CONFIG is set",
                            next="set DOCKER_CONFIG, or pass --authfile", code="auth-file")  # fmt: skip
        return self._files[0]


def _keys(host: str) -> tuple[str, ...]:
    return (_HUB_KEY,) if host in _HUB_HOSTS else (host, f"https://{host}")


def _bare(key: str) -> str:
    """A key of auths without what Docker put around it: scheme, /v1/, /v2/."""
    bare = key.partition("://")[2] if "://" in key else key
    bare = bare.rstrip("/")
    for end in ("/v1", "/v2"):
        bare = bare.removesuffix(end)
    return bare


def _decoded(entry: object, where: str) -> Credentials:
    """Raises InvalidInput, without what is in it."""
    if not isinstance(entry, dict):
        raise InvalidInput("it must be an object", path=where, code="auth-file")
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    user, password = texts.get("username", ""), texts.get("password", "")
    if auth := texts.get("auth"):
        try:
            user, _, password = base64.b64decode(auth, validate=True).decode().rstrip("\0").partition(":")
        except ValueError as e:
            raise InvalidInput("it is not base64", path=f"{where}.auth", next="log in again", code="auth-file") from e
    return Credentials(user, password, texts.get("identitytoken", ""))


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as e:
        raise KistError(f"cannot read {path}", why=e.strerror or str(e), code="auth-file") from e
    if len(data) > _FILE_BYTES_MAX:
        raise InvalidInput(f"{path} is larger than 1 MiB", code="auth-file")
    document = loads(data, path) if data.strip() else {}
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} is no JSON object", code="auth-file")
    return document


def _write(path: str, document: dict[str, object]) -> None:
    """All of it or nothing, for this user's eyes; a symbolic link stays one."""
    import tempfile

    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=".kist-", dir=directory)  # 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(dumps(document, indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as e:
        raise KistError(f"cannot write {path}", why=e.strerror or str(e), code="auth-file") from e
