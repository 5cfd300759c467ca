"""Labels, commands and paths of containers and images are others' words: a terminal that shows them obeys none."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from containers import KIST, kist
from images import busybox_layer, put_image
from kist.errors import KistError, printable
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore

# Clear the screen; set the title; 8-bit CSI; carriage return; from right to left; a line of its own.
EVIL = "a\x1b[2J\x1b]0;owned\x07\x9b31m\rb\u202egnp.exe\nroot\tweb"
KEY = "".join(EVIL.split())  # of a label: without white space
OBEYED = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OWN = re.compile("\x1b\\[[0-9;]*m")  # kist's colours


def shown(*words: str) -> str:
    """What comes on a terminal, whose own end of a line is \\r\\n."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*KIST, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 1 << 16):
                text += data
        except OSError:  # EIO: the other side is closed
            pass
        os.close(ours)
    assert process.returncode is not None
    return text.decode(errors="replace").replace("\r\n", "\n")


@pytest.fixture
def evil(tmp_path: Path, run_dir: Path) -> str:
    """A container whose labels, command, environment, directories and files are full of it."""
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        ImageStore().add("box", put_image(blobs, [layer], compress=None, suffix=""))
    (tmp_path / "dir").mkdir()
    done = kist("run", "--name", "evil", "--label", f"{KEY}={EVIL}", "--label", f"k={EVIL}", "-e", f"K={EVIL}",
                "-v", f"{tmp_path}/dir:/{EVIL.replace(':', '').replace('/', '')}", "box", "sh", "-c",
                'touch "/$1"; exit 3', EVIL, EVIL)  # fmt: skip
    assert done.returncode == 3, done.stderr
    return "evil"


@pytest.mark.parametrize("words", [
    ("ps", "-a"), ("ps", "-a", "--no-trunc"), ("ps", "-a", "--format", "{{.Labels}} {{.Mounts}} {{.Command}}"),
    ("ps", "-a", "--format", 'table {{.Label "k"}}'), ("inspect", "evil"),
    ("inspect", "--format", "{{.Config.Labels}} {{.Config.Env}} {{.Mounts}}", "evil"), ("why", "evil"),
    ("diff", "evil"),
    ("explain", "evil"), ("stats", "-a", "--no-stream"), ("events", "--since", "1h", "--until", "0s"),
    ("inspect", EVIL), ("rm", EVIL), ("cp", f"evil:/{EVIL}/nosuch", "-"), ("run", EVIL), ("logs", EVIL),
    ("ps", "--filter", f"status={EVIL}"), ("create", "--name", EVIL, "box"), (EVIL,), ("ps", f"--{EVIL}"),
], ids=lambda words: " ".join(words)[:20].encode("unicode_escape").decode())  # fmt: skip
def test_a_terminal_obeys_nothing(evil: str, words: tuple[str, ...]) -> None:
    text = OWN.sub("", shown(*words))
    assert text.strip()
    assert not (found := OBEYED.search(text)), text[max(found.start() - 60, 0) : found.start() + 20].encode()
    assert words[0] == "explain" or "\nroot\tweb" not in text  # a shell's word may have several lines


def test_programs_get_what_was_said(evil: str) -> None:
    """Where no terminal is; and JSON stays JSON."""
    import json

    (found,) = json.loads(kist("inspect", "evil").stdout)
    assert found["Config"]["Labels"] == {KEY: EVIL, "k": EVIL}
    assert f"K={EVIL}" in found["Config"]["Env"]
    assert json.loads(kist("inspect", "--format", "json", "evil").stdout)[0]["Config"]["Labels"]["k"] == EVIL
    done = subprocess.run([*KIST, "ps", "-a", "--format", '{{.Label "k"}}'], capture_output=True, check=True)
    assert done.stdout.decode() == EVIL + "\n"  # kist() would take the \r for an end of a line


def test_what_the_control_would_do() -> None:
    assert OBEYED.search(EVIL) and not OBEYED.search(printable(EVIL)) and printable(EVIL) == printable(printable(EVIL))
    assert printable("ä 漢 ✓") == "ä 漢 ✓" and printable(b"\xff\x1b") == "\\xff\\x1b"
    assert not OBEYED.search(str(KistError(EVIL, why=EVIL, next=EVIL)))
