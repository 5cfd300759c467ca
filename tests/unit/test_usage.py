"""What a container uses, from the files of its cgroups."""

from pathlib import Path

import pytest

from kist.engine.usage import _Files

MEMORY_V1 = "cache 4096\ninactive_file 1\ntotal_inactive_file 40960\n"
BLKIO_V1 = "8:0 Read 100\n8:0 Write 7\n8:0 Total 107\n8:16 Read 11\n8:16 Write 0\nTotal 118\n"


@pytest.fixture
def v1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Files:
    """Below ./sys/fs/cgroup, as the paths have it."""
    monkeypatch.chdir(tmp_path)
    files = {
        "cpu,cpuacct": {"cpuacct.usage": "123456789\n"},
        "memory": {"memory.usage_in_bytes": "50000\n", "memory.limit_in_bytes": "9223372036854771712\n",
                   "memory.stat": MEMORY_V1},
        "blkio": {"blkio.throttle.io_service_bytes_recursive": BLKIO_V1},
    }  # fmt: skip
    for controller, made in files.items():
        directory = Path("./sys/fs/cgroup", controller, "kist")
        directory.mkdir(parents=True)
        for name, text in made.items():
            (directory / name).write_text(text)
    return _Files([f"./sys/fs/cgroup/{controller}/kist" for controller in files])


def test_v1(v1: _Files) -> None:
    assert v1.cpu_ns() == 123456789
    assert v1.number("memory", v1.names.usage) == 50000
    assert v1.keys("memory", "memory.stat")[v1.names.cache] == 40960
    assert v1.moved() == (111, 7)
    assert v1.number("pids", "pids.current") == 0  # a host without that controller


def test_v2(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n",
        "memory.current": "50000\n",
        "memory.max": "max\n",
        "memory.stat": "anon 1\ninactive_file 40960\n",
        "io.stat": "8:0 rbytes=100 wbytes=7 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=11 wbytes=0\n",
        "pids.current": "3\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    v2 = _Files([str(tmp_path)])
    assert v2.cpu_ns() == 1234000
    assert (v2.number("memory", v2.names.usage), v2.number("memory", v2.names.limit)) == (50000, 0)
    assert v2.keys("memory", "memory.stat")[v2.names.cache] == 40960
    assert v2.moved() == (111, 7)
    assert v2.number("pids", "pids.current") == 3


def test_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    assert _Files([f"{tmp_path}/gone"]).cpu_ns() is None
    paths = [f"/sys/fs/cgroup/{controller}/kist/gone" for controller in ("cpuacct", "memory")]
    assert _Files(paths).cpu_ns() is None
