"""Reading what a cgroup counted."""

from hypothesis import given
from hypothesis import strategies as st

from kist.kernel.cgroup import Usage, parse_usage

V1 = {
    "cpuacct.usage": "123456789\n",
    "cpuacct.usage_user": "100000000\n",
    "cpuacct.usage_sys": "20000000\n",
    "memory.max_usage_in_bytes": "1048576\n",
    "memory.failcnt": "7\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids.peak": "5\n",
    "pids.events": "max 3\n",
    "blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\n8:16 Read 4\nTotal 4612\n",
}
V2 = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\n",
    "memory.peak": "2097152\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n",
    "pids.peak": "4\n",
    "pids.events": "max 0\n",
    "io.stat": "8:0 rbytes=4096 wbytes=1024 rios=1 wios=1 dbytes=0 dios=0\n253:0 rbytes=1 wbytes=2\n",
}


def test_v1():
    assert parse_usage(V1) == Usage(
        cpu_total_ns=123456789,
        cpu_user_ns=100000000,
        cpu_system_ns=20000000,
        memory_peak_bytes=1048576,
        memory_limit_hits=7,
        oom_kills=2,
        pids_peak=5,
        pids_limit_hits=3,
        io_read_bytes=4100,
        io_written_bytes=512,
    )


def test_v2():
    assert parse_usage(V2) == Usage(
        cpu_total_ns=1500000,
        cpu_user_ns=1000000,
        cpu_system_ns=500000,
        memory_peak_bytes=2097152,
        memory_limit_hits=9,
        oom_kills=1,
        pids_peak=4,
        pids_limit_hits=0,
        io_read_bytes=4097,
        io_written_bytes=1026,
    )


def test_missing_files_leave_their_numbers_out():
    assert parse_usage({}) == Usage()
    assert parse_usage({"memory.peak": "", "cpu.stat": "user_usec 5\n"}) == Usage(cpu_user_ns=5000)


@given(st.dictionaries(st.sampled_from([*V1, *V2]), st.text(max_size=200)))
def test_strange_contents_never_raise(reports):
    parse_usage(reports)


@given(st.sampled_from([*V1.items(), *V2.items()]), st.integers(0, 200))
def test_cut_contents_never_raise(report, length):
    parse_usage({report[0]: report[1][:length]})
