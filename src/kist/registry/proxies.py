"""Which proxy leads to a host, from the environment as Docker reads it. Pure.

Source: Go's golang.org/x/net/http/httpproxy: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, or in lower case.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from kist.errors import InvalidInput, Unsupported
from kist.registry.errors import shown
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy(Value):
    host: str
    port: int
    user: str = ""
    password: str = ""


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """None: go there directly; always so to loopback. Raises InvalidInput, Unsupported (SOCKS, TLS to the proxy)."""
    name = f"{scheme.upper()}_PROXY"
    text = environ.get(name) or environ.get(name.lower()) or ""
    if scheme == "http" and not environ.get("http_proxy") and environ.get("REQUEST_METHOD"):
        return None  # CVE-2016-5386: a CGI script's HTTP_PROXY is the request's header "Proxy"
    exempt = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    if not text or is_loopback(host) or any(_covers(rule, host, port) for rule in exempt.split(",")):
        return None
    url = urlsplit(text if "://" in text else f"http://{text}")
    if url.scheme != "http":
        raise Unsupported(
            f"{name} asks for a proxy of the kind {url.scheme!r}", next="use one that begins with http://"
        )
    try:
        found, at = url.hostname, url.port or 80
    except ValueError:
        found, at = None, 0
    if not found:
        raise InvalidInput(f"{name} is not a proxy: {shown(text.rpartition('@')[2])}", next="write http://HOST:PORT")
    return Proxy(found, at, unquote(url.username or ""), unquote(url.password or ""))


def _covers(rule: str, host: str, port: int) -> bool:
    """One entry of NO_PROXY: *, an address, a network, a domain, `.domain` for what is below it; a port may follow."""
    rule, host = rule.strip().lower(), host.strip("[]").lower().rstrip(".")
    if rule == "*" or not rule:
        return rule == "*"
    try:
        return ip_address(host) in ip_network(rule, strict=False)
    except ValueError:
        pass
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit():
        if int(wanted) != port:
            return False
        rule = name.strip("[]")
    rule = rule.removeprefix("*")
    if rule.startswith("."):
        return host.endswith(rule)
    return host == rule or host.endswith(f".{rule}")
