"""Who is at the other end of a URL. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from kist.errors import RegistryError
from kist.registry.errors import shown
from kist.value import Value

_URL_MAX = 16 << 10


class Origin(Value):
    """Credentials given for one never go to another."""

    scheme: str
    host: str  # without the brackets of IPv6
    port: int

    @property
    def name(self) -> str:
        """HOST[:PORT] as in image names and certs.d."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Raises RegistryError for what is no http or https URL, or has a user name, spaces or control characters in it."""
    bad = len(url) > _URL_MAX or not url.isascii() or any(char <= " " or char == "\x7f" for char in url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, bad = None, None, True
    if bad or not host or parts.scheme not in ("http", "https") or "@" in parts.netloc or port == 0:
        raise RegistryError(f"cannot go to {shown(url)!r}", why="it is no http:// or https:// address", code="bad-url")
    return Origin(parts.scheme, host, port or {"https": 443, "http": 80}[parts.scheme])
