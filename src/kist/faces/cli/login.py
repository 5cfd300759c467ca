"""`kist login`."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, TLS_VERIFY, open_client
from kist.plan import words

_SECRET_MAX = 64 << 10

COMMAND = Command(
    name="login",
    usage=("[FLAG...] [HOST[:PORT]]",),
    summary="Try a user name and a password with a registry, and keep them; without a host Docker Hub's",
    groups=(
        (
            "Flags",
            (
                Flag("username", "one", "NAME", "The user's name; asked for without this flag", words.plain, "u"),
                Flag("password", "one", "TEXT", "The password: everyone on this machine can see it", words.plain, "p"),
                Flag("password-stdin", "bool", "", "Read the password from standard input", words.boolean),
                AUTHFILE,
                TLS_VERIFY,
            ),
        ),
    ),
    examples=(("kist login -u anna --password-stdin quay.io < token", "for scripts"),),
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    host = parsed.arguments[0] if parsed.arguments else "docker.io"
    from kist.registry.client import Credentials

    user = parsed.last("username")
    from_stdin = words.boolean("--password-stdin", parsed.last("password-stdin", "false"))
    password = parsed.last("password")
    if password and from_stdin:
        raise InvalidInput("it excludes --password-stdin", path="--password")
    if (from_stdin or password) and not user:
        raise InvalidInput("it is missing", path="--username", next="write --username NAME")
    if password:
        print("kist: a password on the command line is visible to all; see --password-stdin", file=sys.stderr)
    elif from_stdin:
        password = sys.stdin.read(_SECRET_MAX).rstrip("\r\n")
    else:
        user, password = _ask(host, user)
    if not password or ":" in user:
        raise InvalidInput("the password is empty" if not password else "a user's name has no colon", path="kist login")
    with open_client(parsed, host) as client:
        place = client.login(host, Credentials(user, password))
    if "/" in place:
        print(f"kist: the password is kept unencrypted in {place}; see credsStore of Docker", file=sys.stderr)
    print("Login Succeeded")
    return 0


def _ask(host: str, user: str) -> tuple[str, str]:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise InvalidInput("standard input is no terminal", path="kist login", next="--username and --password-stdin")
    try:
        return user or input(f"Username for {host}: ").strip(), getpass("Password: ")
    except EOFError as e:
        raise InvalidInput("no answer", path="kist login") from e
