"""The launcher's own decoder, with sanitizers, to be asked about one plan after the other."""

import os
import subprocess
from struct import pack, unpack
from types import TracebackType
from typing import Self

HERE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = os.path.join(HERE, "../../launcher")
FLAGS = "-DREPLAY -std=gnu11 -Wall -Wextra -Werror -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"


class Unavailable(Exception):
    """No compiler with sanitizers here."""


def compiled(directory: str, name: str, *sources: str) -> str:
    """A program with sanitizers; its path. Raises Unavailable."""
    program = f"{directory}/{name}"
    argv = ["gcc", *FLAGS.split(), "-o", program]
    try:
        empty = subprocess.run(
            [*argv, "-x", "c", "-"], input="int main(void) { return 0; }", text=True, capture_output=True
        )
    except FileNotFoundError as e:
        raise Unavailable("there is no gcc") from e
    if empty.returncode:
        raise Unavailable(f"gcc has no sanitizers: {empty.stderr[-200:]}")
    subprocess.run([*argv, *sources], check=True)
    return program


class Decoder:
    """Raises Unavailable. What the sanitizers say goes to standard error, and then nothing is answered any more."""

    def __init__(self, directory: str) -> None:
        program = compiled(directory, "decoder", f"{HERE}/plan.c", f"{LAUNCHER}/decode.c")
        environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def verdict(self, plan: bytes) -> int:
        """0, or -errno."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(pack("<I", len(plan)) + plan)
        self._process.stdin.flush()
        answer = self._process.stdout.read(4)
        assert len(answer) == 4, f"the decoder died of {plan[:4000]!r}"
        return int(unpack("<i", answer)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:  # closes the pipes and waits: at the end of its input it ends
            pass
