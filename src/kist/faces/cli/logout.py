"""`kist logout`."""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, open_client

COMMAND = Command(
    name="logout",
    usage=("[FLAG...] [HOST[:PORT]]",),
    summary="Forget the user name and password of a registry; without a host Docker Hub's",
    groups=(("Flags", (AUTHFILE,)),),
    examples=(("kist logout quay.io", "for Docker and podman too, where they read the same file"),),
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    host = parsed.arguments[0] if parsed.arguments else "docker.io"
    with open_client(parsed, host) as client:
        there = client.logout(host)
    print(f"Removing login credentials for {host}" if there else f"Not logged in to {host}")
    return 0
