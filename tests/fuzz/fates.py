"""What becomes of a config: a plan that the launcher's decoder takes, or a KistError.

python fates.py [SECONDS [SEED]]   go on for so long; stops at the first surprise and prints what it takes to repeat it
python fates.py --seeds DIR        write encoded plans there, for the fuzzer of the decoder
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time

from configs import EXEC, HOSTS, UPDATE, config
from decoder import Decoder

from kist.codec import decode_text, dumps
from kist.engine.runtime.container import hook_output
from kist.engine.runtime.create import load_spec, with_id_maps
from kist.errors import InvalidInput, KistError
from kist.faces.oci.spec import template
from kist.plan.cgroup_limits import limits
from kist.plan.compile import compile_container
from kist.plan.compile_exec import compile_exec
from kist.plan.encode import decode, encode
from kist.plan.render import text as told
from kist.plan.setting import CREATE, RUN, Attend, Files, Setting, Stdio
from kist.spec import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Plan

_NAMESPACES = 0x6C020000  # clone flags of a container that is entered: all but user and time
_MEMORY_BYTES, _SLOW_S = 1 << 30, 10.0


def setting(mode: str) -> Setting:
    """As engine.runtime.create and execute fill it."""
    path = "/run/kist-oci/c"
    attend = Attend("/data/log", 1 << 20, 5, f"{path}/attach", "/data/ended", ("/bin/after", "c"), ("/bin/health",), 9)
    return Setting(
        id="c", files=Files(path="/bundle/rootfs") if mode != EXEC else Files(), mode=RUN if mode == EXEC else mode,
        bundle="/bundle", stdio=Stdio(own_files=True), removals=(path,), state_file=f"{path}/state.json",
        state='{"pid":$init_pid}', hook_state='{"status":"creating","pid":$init_pid}', pid_file="/run/pid",
        start_fifo=f"{path}/start" if mode == CREATE else "", exclusive_cgroup=False, default_devices=True,
        find_home=True, all_hierarchies=True, attend=attend if mode == RUN else None,
    )  # fmt: skip


def compiled(text: bytes, mode: str, host: int, directory: str) -> Plan:
    """What kist-oci makes of it, up to the launcher. Raises KistError."""
    facts = HOSTS[host]
    if mode == UPDATE:
        for limit in limits(decode_text(oci.Resources, text), facts, update=True):
            limit.data.encode("utf-8", "surrogateescape")
        return ()
    if mode == EXEC:
        process = decode_text(oci.Process, text)
        spec = template(rootless=False)
        return compile_exec(spec, process, facts, setting(mode), 4711, _NAMESPACES, ("/sys/fs/cgroup/c",)).plan
    path = f"{directory}/config.json"
    with open(path, "wb") as file:
        file.write(text)
    spec, _ = load_spec(path)
    spec = with_id_maps(spec, facts)
    hook_output(spec.annotations)
    return compile_container(spec, facts, setting(mode)).plan


def fate(seed: int, directory: str) -> bytes | KistError:
    """The encoded plan, or the error, which can be said and has a path. Anything else is raised."""
    text, mode = config(seed)
    try:
        plan = compiled(text, mode, seed % len(HOSTS), directory)
        data = encode(plan)
    except KistError as e:
        assert str(e)
        dumps(str(e)).encode()
        assert not isinstance(e, InvalidInput) or e.code in ("json", "plan-size") or "$" in e.path, f"no path: {e}"
        return e
    assert decode(data) == plan
    told(plan)
    return data if plan else encode(plan)


def go_on(for_s: float, seed: int) -> None:
    """Says how it went."""
    end, plans, errors, slowest_s = time.monotonic() + for_s, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as directory, Decoder(directory) as launcher:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        while time.monotonic() < end:
            seed += 1
            began_s = time.process_time()
            try:
                found = fate(seed, directory)
                if isinstance(found, bytes) and decode(found):
                    assert launcher.verdict(found) == 0, "the launcher refuses the plan"
                slowest_s = max(slowest_s, time.process_time() - began_s)
                assert slowest_s < _SLOW_S, f"it takes {slowest_s:.1f} s"
            except BaseException:
                text, mode = config(seed)
                print(f"seed {seed}: {mode} on host {seed % len(HOSTS)}: {text[:3000]!r}")
                raise
            plans, errors = plans + isinstance(found, bytes), errors + isinstance(found, KistError)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{plans} plans, {errors} errors, last seed {seed}; slowest {slowest_s:.2f} s, memory {used} MiB")


def write_seeds(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(3000):
            found = fate(seed, scratch)
            if isinstance(found, bytes) and len(found) < 1 << 16:
                with open(f"{directory}/{seed}", "wb") as file:
                    file.write(found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(sys.argv[2])
    else:
        go_on(float((sys.argv[1:] or ["600"])[0]), int((sys.argv[2:] or ["0"])[0]))
