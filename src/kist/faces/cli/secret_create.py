"""`kist secret create`."""

import os
import sys

from kist.errors import InvalidInput, NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import mount_values, values, words

COMMAND = Command(
    name="secret create",
    usage=("[FLAG...] NAME FILE|-",),
    summary="Keep a secret for containers: kist run --secret NAME shows it as /run/secrets/NAME, in memory only",
    groups=(
        (
            "Flags",
            (
                Flag("driver", "one", "DRIVER", "file, the only one", words.choice("file"), "d"),
                Flag("label", "map", "KEY[=VALUE]", "Note something about it", values.label, "l"),
                Flag("replace", "bool", "", "In place of one of that name", words.boolean),
                Flag("env", "bool", "", "FILE is the name of an environment variable", words.boolean),
            ),
        ),
    ),
    examples=(("pass show db | kist secret create db -", "from standard input"),),
    least=2,
    most=2,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    words.choice("file")("--driver", parsed.last("driver", "file"))
    replace, env = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("replace", "env"))
    labels = dict(values.label("--label", text) for text in parsed.given.get("label", ()))
    name, path = mount_values.secret_name("NAME", parsed.arguments[0]), parsed.arguments[1]
    from kist.store.secrets import BYTES_MAX, Secrets

    if env:
        if path not in os.environ:
            raise NotFound(f"no environment variable {words.show(path)}")
        data = os.environb[path.encode()]
    elif path == "-":
        data = sys.stdin.buffer.read(BYTES_MAX + 1)
    else:
        try:
            with open(path, "rb") as file:
                data = file.read(BYTES_MAX + 1)
        except FileNotFoundError as e:
            raise NotFound(f"no file {words.show(path)}") from e
        except OSError as e:
            raise InvalidInput(f"cannot read {words.show(path)}", why=e.strerror or "") from e
    print(Secrets().create(name, data, labels, replace=replace).id)
    return 0
