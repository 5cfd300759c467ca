"""The `os` of programs that come without `site` does what the standard library's does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kist.system import os as imported

# Prints what each expression gives, or the error that it raises.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
{first}
from kist.system import os
for expression in {expressions!r}:
    try:
        print(expression, repr(eval(expression)))
    except Exception as e:
        print(expression, type(e).__name__)
print("os" in sys.modules)
"""
PATHS = [
    "",
    "/",
    "//",
    "a",
    "a/",
    "/a//b/../c/",
    "../x/.",
    "./",
    "a/b",
    "///a",
    "/etc/passwd",
    "/proc/self",
    "/none",
    "~",
]
EXPRESSIONS = [
    *(
        f"os.path.{name}({path!r})"
        for name in ("abspath", "basename", "dirname", "exists", "isdir", "islink", "lexists", "normpath")
        for path in PATHS
    ),
    *(f"os.path.join({one!r}, {two!r})" for one in PATHS for two in PATHS),
    "os.path.join('a', 'b', '/c', 'd')", "os.path.exists('a\\0b')", "os.path.isdir('a\\0b')",
    "os.fsencode('\\udcff\xe4')", "os.fsencode(b'x')", "sorted(os.environ.items())", "os.environ['NONE']",
    "os.devnull", "os.makedirs('/', exist_ok=True)", "os.open('/none', os.O_RDONLY)", "os.getpid() > 1",
]  # fmt: skip
RARER = ["os.path.realpath('/proc/self/..')", "os.path.commonpath(['/a/b', '/a/c'])", "os.SEEK_SET", "os.makedirs('/')"]


def printed(tmp_path: Path, expressions: list[str], first: str) -> list[str]:
    script = SCRIPT.format(first=first, expressions=expressions)
    argv = [sys.executable, "-I", "-S", "-c", script, str(Path(__file__).parents[2] / "src")]
    environment = {"NAME": "a=b", "LC_ALL": "C.UTF-8", "BYTES": "\udcff"}
    done = subprocess.run(argv, capture_output=True, check=True, cwd=tmp_path, env=environment)
    return done.stdout.decode(errors="surrogateescape").splitlines()


@pytest.mark.parametrize(("expressions", "needs_os"), [(EXPRESSIONS, "False"), (RARER, "True")])
def test_it_is_as_os(tmp_path: Path, expressions: list[str], needs_os: str) -> None:
    *found, has_os = printed(tmp_path, expressions, first="")
    assert has_os == needs_os
    assert found == printed(tmp_path, expressions, first="import os")[:-1]


def test_it_is_os_where_that_is_there_already() -> None:
    assert imported is os
