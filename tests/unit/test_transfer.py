"""Progress on a terminal and elsewhere."""

import io

from kist.faces.cli.transfer import Transfers, blob_line, duration
from kist.spec.image import Descriptor

A = Descriptor("x", "sha256:" + "a" * 64, 100 << 20)
B = Descriptor("x", "sha256:" + "b" * 64, 1000)


def test_a_line_says_how_far_how_fast_and_how_long() -> None:
    line = blob_line("abc", "downloading", 25 << 20, 100 << 20, 20 << 20, 10, 200)
    assert line == "abc: downloading [======>                 ] 25 MiB / 100 MiB  2.0 MiB/s  38 s"
    assert len(blob_line("abc", "downloading", 1, 2, 0, 0, 20)) == 19
    assert blob_line("abc", "preparing", 0, 0, 0, 0, 200).endswith("[========================] 0 B / 0 B")
    assert [duration(s) for s in (1, 59, 60, 3599, 3600, 100000)] == [
        "1 s", "59 s", "1 min", "59 min", "1 h 0 min", "27 h 46 min",
    ]  # fmt: skip


def test_elsewhere_only_what_is_done_is_a_line() -> None:
    out = io.StringIO()
    with Transfers(out, live=False) as progress:
        progress(A, "downloading", 5)
        progress(B, "exists", 1000)
        progress(A, "retrying", 5 << 20)
        progress(A, "retrying", 5 << 20)
        progress(A, "downloading", 6 << 20)
        progress(A, "pulled", A.size)
        progress.preparing(A.digest, 1, 2)
    assert out.getvalue().splitlines() == [
        "bbbbbbbbbbbb: already there (1.0 KiB)",
        "aaaaaaaaaaaa: trying again after 5.0 MiB",
        "aaaaaaaaaaaa: pulled (100 MiB)",
    ]


def test_a_terminal_is_drawn_over_and_left_clean() -> None:
    out, now = io.StringIO(), [0.0]
    with Transfers(out, live=True, columns=100, clock=lambda: now[0]) as progress:
        progress(A, "downloading", 0)
        before = out.getvalue()
        assert before.count("\n") == 1
        progress(A, "downloading", 10)
        assert out.getvalue() == before  # not more often than the eye sees
        now[0] = 1
        progress(B, "downloading", 10)
        assert "\x1b[1A\x1b[J" in out.getvalue() and out.getvalue().count("\n") == 3
        progress(B, "pulled", 1000)
        assert "\x1b[2A\x1b[Jbbbbbbbbbbbb: pulled" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[J")


def test_quiet_is_quiet() -> None:
    with Transfers(None, live=False) as progress:
        progress(A, "pulled", 5)
