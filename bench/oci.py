"""What do the steps of an OCI container's life cost? kist-oci beside runc and crun, on the same bundle.

`run` of /bin/true, and create + start + delete, each without a seccomp filter and with podman's default one; a memory
and a pids limit. All are programs, started by this process. Processor time is that of the commands and of what they
waited for: it travels better than time on a busy machine.

    python bench/oci.py [ROUNDS]
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import start


def bundles(directory: Path) -> dict[str, Path]:
    """The same container without a filter and with one."""
    root = harness.busybox_rootfs(directory)
    made = {}
    for name in ("no filter", "filter"):
        path = directory / name.replace(" ", "-")
        path.mkdir()
        (path / "rootfs").symlink_to(root)
        config = json.loads((start.bundle(path) / "config.json").read_text())
        config["process"]["capabilities"].pop("ambient", None)
        config["root"]["path"] = str(root)
        if name == "no filter":
            del config["linux"]["seccomp"]
        (path / "config.json").write_text(json.dumps(config))
        made[name] = path
    return made


def life(program: str, bundle: Path, root: Path) -> harness.Case:
    """create, start, delete --force: three commands, as an engine calls them."""
    argv = [program, "--root", str(root)]

    def run() -> None:
        for words in (["create", "--bundle", str(bundle), "bench"], ["start", "bench"], ["delete", "--force", "bench"]):
            subprocess.run([*argv, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    return run


def metered(case: harness.Case, spent_ms: list[float]) -> harness.Case:
    """The case, which also tells of the processor time that it took."""

    def run() -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        case()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent_ms.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)

    return run


def cases(directory: Path) -> dict[str, harness.Case]:
    kist_oci = str(Path(sys.executable).with_name("kist-oci"))
    found: dict[str, harness.Case] = {}
    for kind, bundle in bundles(directory).items():
        for program in ("runc", kist_oci, "crun"):
            if shutil.which(program):
                name, root = Path(program).name, directory / Path(program).name
                argv = (program, "--root", str(root), "run", "--bundle", str(bundle), "bench")
                found[f"{name} run, {kind}"] = harness.command(*argv)
                found[f"{name} create start delete, {kind}"] = life(program, bundle, root)
    return found


def main() -> None:
    harness.without_empty_v2_tree()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory(prefix="kist-bench-") as name:
        spent: dict[str, list[float]] = {}
        metered_cases = {key: metered(case, spent.setdefault(key, [])) for key, case in cases(Path(name)).items()}
        times = harness.interleave(metered_cases, rounds)
    versions = {program: harness.version(program, "--version") for program in ("runc", "crun", "kist-oci")}
    for kind in ("no filter", "filter"):
        for what in ("run", "create start delete"):
            ending = f"{what}, {kind}"
            for unit, measured in (("time", times), ("processor time", spent)):
                rows = {case.partition(" ")[0]: measured[case] for case in times if case.endswith(f" {ending}")}
                harness.report(f"{ending}: {unit}", rows, versions, base="runc")


if __name__ == "__main__":
    main()
