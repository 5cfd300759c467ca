"""What sockets, TLS and HTTP raise, as errors of ours that say where and what to do."""

from __future__ import annotations

import http.client
import socket
import ssl

from kist.errors import KistError, RegistryError, Unavailable
from kist.registry.errors import Stopped, shown
from kist.registry.origin import Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading


class Failures:
    """Turns what sockets, TLS and HTTP raise into our errors, which say where."""

    def __init__(self, origin: Origin, stop: threading.Event) -> None:
        self._origin = origin
        self._stop = stop

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, e: BaseException | None, trace: object) -> None:
        if e is None or isinstance(e, KistError) or not isinstance(e, (OSError, http.client.HTTPException, ValueError)):
            return
        if self._stop.is_set():
            raise Stopped("stopped") from e
        raise translated(e, self._origin.name) from e


def translated(e: BaseException, host: str) -> KistError:
    why = shown(getattr(e, "strerror", None) or str(e) or type(e).__name__)
    if isinstance(e, ssl.SSLCertVerificationError):
        return RegistryError(
            f"cannot trust {host}",
            why=shown(e.verify_message or str(e)),
            next=f"put its authority's certificate at /etc/containers/certs.d/{host}/ca.crt",
            code="tls",
        )
    if isinstance(e, socket.gaierror):
        # Also for EAI_AGAIN: the resolver has tried for some time, and most often there is no network.
        return RegistryError(f"cannot find the host {host}", why=why, next="check the name", code="unreachable")
    if isinstance(e, ConnectionRefusedError):
        next_ = "check the port, and that the registry runs"
        return RegistryError(f"cannot reach {host}", why=why, next=next_, code="unreachable")
    if isinstance(e, TimeoutError):
        return Unavailable(f"{host} is too slow", why=why, next="try again later", code="timeout")
    if isinstance(e, ssl.SSLError) and e.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        next_ = "for a registry without TLS: insecure = true in registries.conf"
        return RegistryError(f"{host} does not speak TLS", next=next_, code="tls")
    if isinstance(e, ssl.SSLError) and any(word in (e.reason or "") for word in ("ALERT", "UNSUPPORTED", "CERT")):
        return RegistryError(f"cannot agree with {host} on TLS", why=shown(str(e)), code="tls")
    if isinstance(e, http.client.HTTPException) and not isinstance(
        e, (http.client.IncompleteRead, http.client.BadStatusLine)
    ):
        return RegistryError(
            f"cannot understand what {host} sends", why=f"{type(e).__name__}: {why}", code="bad-answer"
        )
    if isinstance(e, http.client.IncompleteRead):
        why = "the answer ends too early"
    return Unavailable(f"the connection to {host} broke", why=why, next="try again later")
