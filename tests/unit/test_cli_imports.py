"""What `kist run` imports until the launcher takes over, all of it: each import is time at every start of a container.

argparse 15 ms, json 8 (re), dataclasses 29, enum and typing 4 each, socket 4, importlib and pathlib 15.
"""

import subprocess
import sys

from images import member, put_image, tar_of
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore

PROBE = """
import sys
before = set(sys.modules)
from kist.faces.cli import __main__
import kist.engine.run
def become(plan, program, keep, explainer):
    print(*sorted(set(sys.modules) - before))
    raise SystemExit(0)
kist.engine.run.become = become
__main__.run(["run", *{argv!r}])
"""
STANDARD = {"__future__", "_json", "_struct", "errno", "fcntl", "gc", "math", "struct"}
OURS = {
    "kist", "kist.codec", "kist.errors", "kist.system", "kist.value",
    "kist.engine", "kist.engine.host_image", "kist.engine.identity", "kist.engine.making", "kist.engine.prepare",
    "kist.engine.run",
    "kist.engine.state",
    "kist.faces", "kist.faces.cli", "kist.faces.cli.__main__", "kist.faces.cli.command", "kist.faces.cli.failed",
    "kist.faces.cli.flags", "kist.faces.cli.parse", "kist.faces.cli.request", "kist.faces.cli.run",
    "kist.faces.cli.verbs", "kist.faces.cli.with_image",
    "kist.kernel", "kist.kernel.probe", "kist.kernel.program", "kist.kernel.subids",
    "kist.plan", "kist.plan._syscalls", "kist.plan._table", "kist.plan.background", "kist.plan.builder",
    "kist.plan.cgroup",
    "kist.plan.cgroup_devices", "kist.plan.cgroup_limits", "kist.plan.compile", "kist.plan.compile_process",
    "kist.plan.compile_root", "kist.plan.config", "kist.plan.encode", "kist.plan.facts", "kist.plan.flags",
    "kist.plan.mount_options", "kist.plan.mount_values", "kist.plan.request", "kist.plan.seccomp",
    "kist.plan.seccomp_default", "kist.plan.seccomp_default_x86_64", "kist.plan.setting", "kist.plan.steps",
    "kist.plan.sysctl", "kist.plan.values", "kist.plan.words",
    "kist.spec", "kist.spec.runtime",
}  # fmt: skip


IMAGES = {
    "kist.plan.image", "kist.spec.image", "kist.spec.reference", "kist.store", "kist.store.data", "kist.store.forms",
    "kist.store.images",
    "kist.store.layout", "kist.store.locks", "kist.store.names", "kist.store.records", "kist.store.summary",
}  # fmt: skip


def imported(tmp_path, *argv: str) -> set[str]:
    probe = [sys.executable, "-I", "-c", PROBE.format(argv=list(argv))]
    env = {"KIST_RUN_DIR": str(tmp_path / "run"), "KIST_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(probe, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_run_imports_no_more_than_it_needs(tmp_path) -> None:
    common = [
        "--rm",
        "-i",
        "--cpus",
        "1",
        "-e",
        "A=1",
        "-v",
        "/usr:/b:ro",
        "-u",
        "1:1",
        "-w",
        "/",
        "--allow-unenforced",
    ]
    found = imported(tmp_path, *common, "--tmpfs", "/t", "--network", "none", "--hostname", "x", "host", "/bin/true")
    assert not found - OURS - STANDARD
    assert {"kist.engine.run", "kist.plan.compile"} <= found  # the control: this test sees imports


def test_rarer_flags_import_what_they_need(tmp_path) -> None:
    assert "ipaddress" in imported(tmp_path, "--dns", "192.0.2.1", "--rm", "host", "true")


def test_an_image_needs_no_more_of_the_standard_library(tmp_path) -> None:
    store = ImageStore(str(tmp_path / "data"))
    with BlobStore(store.data_dir) as blobs:
        store.add("box", put_image(blobs, [tar_of(member("f", b"f"))]))
    found = imported(tmp_path, "--rm", "box", "/bin/true")
    assert not found - OURS - STANDARD - IMAGES
    assert "kist.store.records" in found
