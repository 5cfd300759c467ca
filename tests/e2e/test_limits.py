"""Limits bite, are said to have bitten, and what was used is told. cgroup v1 here, v2 in the small machine."""

import time

import kist
from containers import inside, needs_limits
from containers import kist as command

pytestmark = needs_limits
FILL = "x = bytearray(200 << 20); x[::4096] = b'x' * len(x[::4096]); print('survived')"


def test_memory():
    result = kist.run(["python3", "-c", FILL], memory="64m")
    assert result.returncode == 137
    assert result.oom_killed
    assert "survived" not in result.stdout
    assert 48 << 20 < result.usage.memory_peak_bytes <= 64 << 20
    control = kist.run(["python3", "-c", FILL], memory="512m")
    assert (control.returncode, control.oom_killed) == (0, False)


def test_out_of_memory_is_said():
    done = command("run", "--rm", "--memory", "64m", "host", "python3", "-c", FILL)
    assert done.returncode == 137
    assert "out of memory" in done.stderr


def test_what_is_written_counts_as_memory():
    """The throw-away layer fills up before the limit kills."""
    result = kist.run(["sh", "-c", "head -c 100m /dev/zero > /big; echo $?; df -k / | tail -1"], memory="64m")
    assert "No space left" in result.stderr or "I/O error" in result.stderr  # the latter before Linux 6.6
    assert not result.oom_killed


def test_pids():
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
    result = kist.run(["sh", "-c", script], pids_limit=5)
    assert "fork" in result.stderr.lower() or "resource" in result.stderr.lower()
    assert kist.run(["sh", "-c", script], pids_limit=50).stderr == ""


def test_cpus():
    """Half a busy second on a quarter of a processor takes two."""
    loop = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    result = kist.run(["python3", "-c", loop], cpus=0.25)
    assert result.returncode == 0
    assert result.usage.wall_s > 1.2
    assert 0.4 < result.usage.cpu_s < result.usage.wall_s / 2


def test_cpuset():
    text = inside("--cpuset-cpus", "0", "host", "grep", "Cpus_allowed_list", "/proc/self/status")
    assert text.split()[-1] == "0"


def test_a_fork_bomb_ends_with_its_container():
    began = time.monotonic()
    result = kist.run(["sh", "-c", "b() { b | b & }; b; sleep 60"], pids_limit=60, timeout=2)
    assert result.timed_out
    assert time.monotonic() - began < 30


def test_usage_without_a_limit():
    result = kist.run(["python3", "-c", "sum(range(10**6))"])
    assert result.usage.cpu_s > 0
    assert result.usage.wall_s > 0
    assert result.usage.memory_peak_bytes is None or result.usage.memory_peak_bytes > 1 << 20


def test_children_that_were_never_waited_for_count():
    busy = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nopen('/tmp/done', 'w')"
    result = kist.run(["sh", "-c", f'python3 -c "{busy}" & until [ -e /tmp/done ]; do sleep 0.05; done'])
    assert result.usage.cpu_s > 0.25


def test_its_cgroup_looks_like_the_root():
    lines = inside("-m", "64m", "host", "cat", "/proc/self/cgroup").splitlines()
    memory = [line for line in lines if ":memory:" in line or line.startswith("0::")]
    assert memory
    assert all(line.endswith(":/") for line in memory)


def test_its_limit_can_be_read_inside():
    script = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    assert inside("-m", "64m", "host", "sh", "-c", script).strip() == str(64 << 20)
    assert "ro," in inside("-m", "64m", "host", "grep", " /sys/fs/cgroup ", "/proc/self/mountinfo")
