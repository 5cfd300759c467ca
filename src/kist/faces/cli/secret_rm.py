"""`kist secret rm`."""

import sys

from kist.errors import InvalidInput, KistError
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="secret rm",
    usage=("[--all] [SECRET...]",),
    summary="Remove secrets; those who run with one keep it until they end",
    groups=(("Flags", (Flag("all", "bool", "", "All of them", words.boolean, "a"),)),),
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    every = words.boolean("--all", parsed.last("all", "false"))
    if every == bool(parsed.arguments):
        raise InvalidInput("secrets, or --all", path="kist secret rm", next="one of the two", code="usage")
    from kist.store.secrets import Secrets

    store, status = Secrets(), 0
    for name in [secret.name for secret in store.list()] if every else parsed.arguments:
        try:
            secret = store.find(name)
            store.remove(secret)
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = 1
        else:
            print(secret.id)
    return status
