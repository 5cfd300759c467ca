"""`kist cp`."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.inside import Report

COMMAND = Command(
    name="cp",
    usage=("[FLAG...] CONTAINER:PATH PATH|-", "[FLAG...] PATH|- CONTAINER:PATH"),
    summary="Copy files between a container, running or not, and the host; - is a tar archive on standard input or "
    "output",
    groups=(
        (
            "Flags",
            (
                Flag("archive", "bool", "", "With owners: else they are the container's root, or you", words.boolean,
                     "a"),
                Flag("follow-link", "bool", "", "Of a symlink that is named, what it leads to", words.boolean, "L"),
                Flag("quiet", "bool", "", "Do not say how much it was", words.boolean, "q"),
            ),
        ),
    ),
    examples=(
        ("kist cp web:/var/log/. logs", "what is in a directory"),
        ("kist cp web:/etc - | tar t", "as an archive"),
    ),
    least=2,
    most=2,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    archive, follow, quiet = (
        words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("archive", "follow-link", "quiet")
    )
    source, target = map(_split, parsed.arguments)
    if bool(source[0]) == bool(target[0]):
        what = "both are" if source[0] else "none is"
        raise InvalidInput(f"{what} a container's", path="kist cp", next="write CONTAINER:PATH for one of the two",
                           code="usage")  # fmt: skip
    from kist.engine import cp
    from kist.engine.containers import Containers

    containers = Containers()
    container = containers.find(source[0] or target[0])
    if target[1] == "-" and not target[0]:
        if sys.stdout.isatty():
            raise InvalidInput("an archive is nothing for a terminal", path="kist cp", next="send it into a pipe")
        cp.to_archive(containers, container, source[1], 1, follow=follow)
        return 0
    if source[1] == "-" and not source[0]:
        report = cp.from_archive(containers, container, target[1], 0, archive=archive)
    elif source[0]:
        report = cp.from_container(containers, container, source[1], target[1], archive=archive, follow=follow)
    else:
        report = cp.to_container(containers, container, source[1], target[1], archive=archive, follow=follow)
    _say(report, parsed.arguments[1], quiet=quiet)
    return 0


def _split(text: str) -> tuple[str, str]:
    """(container, path): a path of the host's begins with / or ., or has no colon."""
    name, colon, path = text.partition(":")
    if text.startswith(("/", ".")) or not colon:
        return "", text
    if not path:
        raise InvalidInput(f"{words.show(text)} names no path in the container", path="kist cp", next=f"{name}:/a/path")
    return name, path


def _say(report: Report, target: str, *, quiet: bool) -> None:
    from kist.faces.cli.columns import size_words

    for skipped in report.skipped:
        print(f"kist: left out {skipped.count} {skipped.reason}(s): {', '.join(skipped.examples)}", file=sys.stderr)
    if not quiet:
        print(f"Successfully copied {size_words(report.bytes)} to {target}", file=sys.stderr)
