"""`kist commit`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="commit",
    usage=("[FLAG...] CONTAINER [IMAGE]",),
    summary="Make an image of what a container has changed; what is in its volumes is not in there",
    groups=(
        (
            "Flags",
            (
                Flag("author", "one", "NAME", "Who made it", words.plain, "a"),
                Flag("change", "many", "INSTRUCTION", "Change its config as in a Dockerfile: 'CMD [\"sh\"]', 'ENV A=b'",
                     words.plain, "c"),
                Flag("message", "one", "TEXT", "A comment for its history", words.plain, "m"),
                Flag("pause", "bool", "", "Let the container stand still meanwhile (default true)", words.boolean, "p"),
            ),
        ),
    ),
    examples=(("kist commit -m 'with nano' -c 'CMD [\"nano\"]' work nano", "and then: kist run --rm -it nano"),),
    least=1,
    most=2,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    pause = words.boolean("--pause", parsed.last("pause", "true"))
    from kist.engine.commit import commit
    from kist.engine.containers import Containers

    containers = Containers()
    image = commit(
        containers, containers.find(parsed.arguments[0]), parsed.arguments[1] if len(parsed.arguments) > 1 else None,
        message=parsed.last("message"), author=parsed.last("author"), changes=parsed.given.get("change", ()),
        pause=pause,
    )  # fmt: skip
    print(image.id)
    return 0
