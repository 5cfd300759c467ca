"""`--network pasta[:OPTION,...]`, as podman has it: the program pasta copies the host's interface into the container.

It carries what the host's sockets do, ICMP too, and the container has the host's address. See pasta(1).
"""

from __future__ import annotations

import os

from kist.errors import InvalidInput, NotFound, Refused
from kist.network.publish import relay_ports
from kist.plan.rtnetlink import address_text
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.network.attach import Attachment
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest

_TUN = "/dev/net/tun"
NAME_SERVER = "169.254.1.1"  # questions sent there are asked of the host's servers
_SEARCH = "/usr/local/bin:/usr/bin:/bin"
# What is not asked for otherwise. As podman has it: nothing is forwarded by itself, and the host is not the gateway.
_DEFAULTS = (("-T", "none", "--tcp-ns"), ("-U", "none", "--udp-ns"), ("--dns-forward", NAME_SERVER, ""))


def attach(request: RunRequest, facts: HostFacts) -> Attachment:
    """Its ports are free now; pasta opens them. Raises InvalidInput, NotFound, Refused, Conflict."""
    from shutil import which

    if facts.uid == 0:
        raise Refused("--network pasta is for ordinary users", why="root has cables", next="--network bridge")
    if "netns" in request.without:
        raise InvalidInput("without a network namespace there is nothing to connect", path="--without netns")
    program = which("pasta", path=_SEARCH)
    if program is None:
        raise NotFound("--network pasta: the program pasta is not installed", code="no-pasta",
                       next="install passt; or --network bridge, which needs no helper")  # fmt: skip
    if not os.access(_TUN, os.R_OK | os.W_OK):
        raise Refused(f"--network pasta: this user may not open {_TUN}", code="no-tun",
                      next="--network bridge, which needs no helper")  # fmt: skip
    free = relay_ports(request, ipv6=facts.ipv6)
    free.close()
    asked = [word for word in request.network.partition(":")[2].split(",") if word]
    options = [program, "--config-net", "--quiet", "--netns-only"]
    for flag, long, protocol in (("-t", "--tcp-ports", "tcp"), ("-u", "--udp-ports", "udp")):
        specs = [_spec(words) for words in free.ports if words.startswith(protocol)]
        specs = [*dict.fromkeys(specs)] or (["none"] if not {flag, long} & {*asked} else [])
        options += [word for spec in specs for word in (flag, spec)]
    for flag, value, long in _DEFAULTS:
        options += [flag, value] if not {flag, long} & {*asked} else []
    options += ["--no-map-gw"] if "--map-gw" not in asked else []  # podman's own word
    return replace(free, fds=(), relayed=(), pasta=(*options, *[word for word in asked if word != "--map-gw"]))


def _spec(words: str) -> str:
    _, address, port, target = words.split(" ")
    local = bytes.fromhex(address)
    return f"{address_text(local)}/{port}:{target}" if any(local) else f"{port}:{target}"
