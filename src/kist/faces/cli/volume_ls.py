"""`kist volume ls`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

HEADS = {
    "Driver": "DRIVER", "Name": "VOLUME NAME", "Labels": "LABELS", "Mountpoint": "MOUNTPOINT", "Scope": "SCOPE",
    "Links": "LINKS", "Size": "SIZE", "CreatedAt": "CREATED AT",
}  # fmt: skip
_FILTERS = ("dangling", "driver", "label", "name")

COMMAND = Command(
    name="volume ls",
    usage=("[FLAG...]",),
    summary="List the volumes",
    groups=(
        (
            "Flags",
            (
                Flag("filter", "many", "KEY=VALUE", f"Only those: {', '.join(_FILTERS)}", words.plain, "f"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.Name}}'", words.plain),
                Flag("quiet", "bool", "", "Only the names", words.boolean, "q"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    from kist.engine.volumes import users
    from kist.faces.cli.columns import print_rows
    from kist.faces.cli.images import filters
    from kist.faces.cli.volumes import created, everything, passes

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    containers, volumes = everything()
    found = volumes.list()
    using = users(containers) if found else {}
    rows = []
    for volume in found:
        if not (
            passes(volume, asked)
            and all(text in volume.name for text in asked.get("name", ()))
            and all(text == "local" for text in asked.get("driver", ()))
            and all(words.boolean("--filter dangling", t) != (volume.name in using) for t in asked.get("dangling", ()))
        ):
            continue
        rows.append({
            "Driver": "local", "Name": volume.name, "Labels": ",".join(f"{k}={v}" for k, v in volume.labels.items()),
            "Mountpoint": volumes.path(volume.name), "Scope": "local", "Links": str(len(using.get(volume.name, ()))),
            "Size": "N/A", "CreatedAt": created(volume),
        })  # fmt: skip
    if quiet:
        print("".join([f"{row['Name']}\n" for row in rows]), end="")
    else:
        print_rows(rows, HEADS, ["Driver", "Name"], parsed.last("format"))
    return 0
