"""`kist volume create`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import mount_values, values, words

_driver = words.choice("local")

COMMAND = Command(
    name="volume create",
    usage=("[FLAG...] [VOLUME]",),
    summary="Make a volume: a directory that outlives the containers that use it",
    groups=(
        (
            "Flags",
            (
                Flag("driver", "one", "DRIVER", "local, the only one", _driver, "d"),
                Flag("label", "map", "KEY[=VALUE]", "Note something about it", values.label),
                Flag("opt", "map", "KEY=VALUE", "type=, o=, device=: what is mounted in its place",
                     mount_values.driver_option, "o"),
            ),
        ),
    ),
    examples=(
        ("kist volume create data", "and then: kist run -v data:/data ..."),
        ("kist volume create -o type=none -o o=bind -o device=/srv/www www", "a directory of the host"),
    ),
    most=1,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    _driver("--driver", parsed.last("driver", "local"))
    labels = dict(values.label("--label", text) for text in parsed.given.get("label", ()))
    options = dict(mount_values.driver_option("--opt", text) for text in parsed.given.get("opt", ()))
    name = mount_values.volume_name("VOLUME", parsed.arguments[0]) if parsed.arguments else ""
    from kist.faces.cli.volumes import everything

    print(everything()[1].create(name, labels, options, anonymous=not name).name)
    return 0
