"""What `kist run` imports before it calls the engine: nothing beyond what msgspec has brought already.

Each import is time at every start of a container: argparse 15 ms, json 8, dataclasses 29, pathlib 15.
"""

import subprocess
import sys

PROBE = """
import sys
import msgspec
before = set(sys.modules)
from kist.faces.cli import __main__
from kist.faces.cli.verbs import verb_main
verb_main("run")
from kist.faces.cli.run import read_request
read_request({argv!r})
print(*sorted(set(sys.modules) - before))
"""
OURS = {
    "kist",
    "kist.errors",
    "kist.faces",
    "kist.faces.cli",
    "kist.faces.cli.__main__",
    "kist.faces.cli.flags",
    "kist.faces.cli.parse",
    "kist.faces.cli.request",
    "kist.faces.cli.run",
    "kist.faces.cli.verbs",
    "kist.plan",
    "kist.plan.mount_values",
    "kist.plan.request",
    "kist.plan.values",
}


def imported(*argv: str) -> set[str]:
    probe = [sys.executable, "-I", "-c", PROBE.format(argv=list(argv))]
    return set(subprocess.run(probe, capture_output=True, text=True, check=True).stdout.split())


def test_run_imports_no_more_than_it_needs() -> None:
    common = ["--rm", "-it", "-m", "64m", "--cpus", "1.5", "-e", "A=1", "-v", "/a:/b:ro", "-u", "1:1", "-w", "/"]
    assert imported(*common, "--tmpfs", "/t", "--network", "none", "--hostname", "x", "host", "/bin/true") == OURS


def test_rarer_flags_import_what_they_need() -> None:
    """The control: this test sees imports."""
    assert imported("--dns", "192.0.2.1", "--ulimit", "core=0", "host") >= OURS | {"ipaddress", "kist.plan.steps"}
