"""`kist secret ls`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

HEADS = {"ID": "ID", "Name": "NAME", "Driver": "DRIVER", "CreatedAt": "CREATED", "UpdatedAt": "UPDATED"}
_FILTERS = ("name", "id")

COMMAND = Command(
    name="secret ls",
    usage=("[FLAG...]",),
    summary="List the secrets",
    groups=(
        (
            "Flags",
            (
                Flag("filter", "many", "KEY=VALUE", f"Only those: {', '.join(_FILTERS)}", words.plain, "f"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.Name}}'", words.plain),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.faces.cli.columns import ago, print_rows
    from kist.faces.cli.images import filters
    from kist.store.secrets import Secrets

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    rows = [
        {"ID": s.id, "Name": s.name, "Driver": "file", "CreatedAt": ago(s.created_ns / 1e9),
         "UpdatedAt": ago(s.updated_ns / 1e9)}
        for s in Secrets().list()
        if all(text in s.name for text in asked.get("name", ()))
        and all(s.id.startswith(text) for text in asked.get("id", ()))
    ]  # fmt: skip
    if words.boolean("--quiet", parsed.last("quiet", "false")):
        print("".join([f"{row['ID']}\n" for row in rows]), end="")
    else:
        print_rows(rows, HEADS, HEADS, parsed.last("format"))
    return 0
