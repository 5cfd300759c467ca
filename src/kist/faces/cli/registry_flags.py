"""What the verbs that speak with registries have in common."""

from __future__ import annotations

import sys

from kist.faces.cli.command import Flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from kist.faces.cli.parse import Parsed
    from kist.faces.cli.transfer import Transfers
    from kist.registry.client import Client

AUTHFILE = Flag("authfile", "one", "FILE", "Credentials, in place of Docker's and podman's files", words.plain)
TLS_VERIFY = Flag("tls-verify", "bool", "", "false: plain HTTP and unknown certificates too", words.boolean)
QUIET = Flag("quiet", "bool", "", "Only the result", words.boolean, "q")


def open_client(parsed: Parsed, host: str) -> Client:
    """A client for this command line. Raises InvalidInput."""
    import os

    from kist.registry.client import Client, Keychain
    from kist.registry.hosts import read_hosts

    hosts = read_hosts(os.environ)
    if not words.boolean("--tls-verify", parsed.last("tls-verify", "true")):
        hosts = hosts.trusting(host)
    return Client(hosts=hosts, keychain=Keychain.default(os.environ, parsed.last("authfile")))


def transfers(out: TextIO | None = None, *, quiet: bool = False) -> Transfers:
    """Progress on `out`, by default standard output."""
    import os

    from kist.faces.cli.terminal import columns
    from kist.faces.cli.transfer import Transfers

    stream = None if quiet else out or sys.stdout
    live = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    return Transfers(stream, live=live, columns=columns())
