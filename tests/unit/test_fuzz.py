"""A few seconds of what `make fuzz` does for ten minutes each: the plan decoder in C, the config decoder in Python.

The same inputs each time, made here. KIST_LONG=1: a hundred times as many.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import pack, pack_into, unpack_from

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../fuzz"))

from configs import EXEC, HOSTS, SIMPLE, config
from decoder import HERE, LAUNCHER, Decoder, Unavailable
from decoder import compiled as compiled_c
from facts import ROOT_V1
from fates import compiled, fate

from kist.engine.runtime.execute import ExecRequest, _process
from kist.errors import InvalidInput, KistError, NotFound
from kist.faces.oci.spec import template
from kist.plan.encode import MAX_STEPS, decode, encode
from kist.plan.setting import RUN
from kist.plan.steps import HOST, Entry, Mkdir
from kist.plan.words import members

MANY = 100 if os.environ.get("KIST_LONG") else 1
EBADMSG, EPROTO = -74, -71


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    try:
        with Decoder(str(tmp_path_factory.mktemp("decoder"))) as decoder:
            yield decoder
    except Unavailable as e:
        pytest.skip(str(e))


def test_a_config_becomes_a_plan_or_an_error(decoder: Decoder, tmp_path: Path) -> None:
    plans = errors = 0
    for seed in range(600 * MANY):
        try:
            found = fate(seed, str(tmp_path))
        except BaseException as e:
            e.add_note(f"seed {seed}: {config(seed)}")
            raise
        if isinstance(found, KistError):
            errors += 1
        elif decode(found):
            assert decoder.verdict(found) == 0, seed
            plans += 1
    assert plans > 100 * MANY and errors > 100 * MANY


FOUND = {  # by fuzzing: what is put into a config, and the path of the error
    "negative timeout": ({"hooks": {"poststop": [{"path": "/x", "timeout": -1}]}}, "$.hooks.poststop[0].timeout"),
    "endless timeout": ({"hooks": {"prestart": [{"path": "/x", "timeout": 2**62}]}}, "$.hooks.prestart[0].timeout"),
    "half a surrogate pair": ({"hostname": "\ud800"}, "$.hostname"),
    "half a pair in a key": ({"annotations": {"\udfff": ""}}, "$.annotations"),
    "NUL in a key": ({"annotations": {"a\0": ""}}, "$.annotations"),
    "cgroup path": ({"linux": {"cgroupsPath": "/a/../b", "namespaces": [{"type": "mount"}]}}, "$.linux.cgroupsPath"),
}


@pytest.mark.parametrize("found", FOUND)
def test_found(found: str, tmp_path: Path) -> None:
    change, path = FOUND[found]
    with pytest.raises(InvalidInput) as e:
        compiled(json.dumps(SIMPLE | change).encode(), RUN, HOSTS.index(ROOT_V1), str(tmp_path))
    assert e.value.path == path


def test_found_in_a_process() -> None:
    process = SIMPLE["process"] | {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": -1}}
    with pytest.raises(InvalidInput, match=r"\$.process.ioPriority.priority: -1 is not within 0..7"):
        compiled(json.dumps(process).encode(), EXEC, HOSTS.index(ROOT_V1), "")


def test_a_list_of_processors_takes_no_longer_than_its_text() -> None:
    """Each range used to be walked through: a config.json of 16 MiB would have taken five minutes."""
    text = ",".join(["0-99999"] * 8000)
    assert members("$", text) == (1 << 100_000) - 1
    with pytest.raises(InvalidInput):
        members("$", text + text)


def test_bytes_that_are_no_text_pass_through(tmp_path: Path) -> None:
    """Paths that os.fsdecode made, in our own records."""
    config = SIMPLE | {"hostname": "\udc80", "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}]}}
    plan = compiled(json.dumps(config).encode(), RUN, HOSTS.index(ROOT_V1), str(tmp_path))
    assert b"\x80" in encode(plan)


def test_exec_without_its_file_says_so() -> None:
    with pytest.raises(NotFound, match="cannot read /nowhere"):
        _process(ExecRequest(process_file="/nowhere"), template(rootless=False))


def steps(plan: bytes) -> list[tuple[int, int]]:
    """(start, size) of each."""
    at, found = 24, []
    while at < len(plan):
        (size,) = unpack_from("<I", plan, at + 4)
        found.append((at, size))
        at += size
    return found


def mutated(plan: bytes, chance: random.Random) -> bytes:
    """Something wrong somewhere, mostly where a number or a size is; half of them with a total that is right again."""
    data = bytearray(plan)
    at, size = chance.choice(steps(plan))
    where = chance.choice([at + chance.randrange(8), at + 8 * chance.randrange(1, size // 8), chance.randrange(24)])
    kind = chance.randrange(6)
    if kind == 0:
        data[where] = chance.randrange(256)
    elif kind == 1:
        pack_into(
            "<Q", data, where & ~7, chance.choice([0, 1, 7, 8, size, len(plan), 2**32, 2**63, 2**64 - 1, 2**64 - 8])
        )
    elif kind == 2:
        del data[where : where + chance.choice([1, 8, size])]
    elif kind == 3:
        data[where:where] = data[at : at + chance.choice([1, 8, size])]
    elif kind == 4:
        del data[chance.randrange(len(data)) :]
    else:
        (value,) = unpack_from("<Q", data, where & ~7)
        pack_into("<Q", data, where & ~7, (value + chance.choice([-8, -1, 1, 8, 1 << 32])) & (1 << 64) - 1)
    if chance.random() < 0.5 and len(data) >= 24:
        pack_into("<I", data, 16, len(data))
    return bytes(data)


def test_the_decoder_reads_nothing_outside_of_a_plan(decoder: Decoder, tmp_path: Path) -> None:
    """The sanitizers watch. What it takes is a plan to us, too: the same steps, of the same sizes."""
    chance, verdicts = random.Random(1), []
    plans = [found for found in (fate(seed, str(tmp_path)) for seed in range(200)) if isinstance(found, bytes)]
    plans = [plan for plan in plans if 24 < len(plan) < 1 << 16]
    for _ in range(5000 * MANY):
        plan = mutated(chance.choice(plans), chance)
        verdicts.append(decoder.verdict(plan))
        if verdicts[-1] == 0:
            assert 0 < len(steps(plan)) == unpack_from("<I", plan, 20)[0]
            assert sum(size for _, size in steps(plan)) + 24 == len(plan)
    assert set(verdicts) == {0, EBADMSG, EPROTO}


@pytest.mark.parametrize("data", [b"", b"KISTPLAN", b"\xff" * 24, b"KISTPLAN" + bytes(16)])
def test_what_is_no_plan_is_refused(decoder: Decoder, data: bytes) -> None:
    assert decoder.verdict(data) in {EBADMSG, EPROTO}


@pytest.mark.parametrize(
    ("name", "source", "rounds"), [("front", "front_read.c", 200_000), ("names", "names.c", 6_000)]
)
def test_what_strangers_send(tmp_path: Path, name: str, source: str, rounds: int) -> None:
    """Sanitizers and the demands in tests/fuzz end it otherwise. Many are taken: not all fail at the first byte."""
    try:
        program = compiled_c(str(tmp_path), name, f"{HERE}/{name}.c", f"{LAUNCHER}/{source}")
    except Unavailable as e:
        pytest.skip(str(e))
    done = subprocess.run([program, str(rounds * MANY)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert rounds * MANY // 4 < int(done.stdout) < rounds * MANY


def test_a_plan_has_no_more_steps_than_the_launcher_takes(decoder: Decoder) -> None:
    step = Entry(Mkdir("/a"), HOST, "cgroup", "why")
    assert decoder.verdict(encode((step,) * MAX_STEPS)) == 0
    with pytest.raises(InvalidInput, match="8193 steps"):
        encode((step,) * (MAX_STEPS + 1))
    one = encode((step,))
    many = one[:16] + pack("<II", 24 + (MAX_STEPS + 1) * (len(one) - 24), MAX_STEPS + 1) + one[24:] * (MAX_STEPS + 1)
    assert decoder.verdict(many) == EBADMSG
