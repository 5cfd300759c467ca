"""Words about containers that run by themselves: see values.py."""

from __future__ import annotations

from kist.plan.request import Restart
from kist.plan.values import seconds, size_or_unset
from kist.plan.words import DIGITS, bad, plain


def restart(flag: str, text: str) -> Restart:
    """`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:3`. Source: docker run."""
    policy, colon, most = text.partition(":")
    policy = policy or "no"
    if policy not in ("no", "always", "unless-stopped", "on-failure"):
        raise bad(flag, text, "it is no restart policy", "no, on-failure[:MOST], always or unless-stopped")
    if colon and (policy != "on-failure" or not most or not DIGITS.issuperset(most) or len(most) > 9):
        raise bad(flag, text, "only on-failure takes how often at most", "for example on-failure:3")
    return Restart(policy, int(most or 0))


def log_driver(flag: str, text: str) -> str:
    """Docker's drivers that keep what is said on this machine are all the same here."""
    if text in ("local", "json-file", "k8s-file"):
        return "local"
    if text != "none":
        raise bad(flag, text, "kist has no such log driver", "local or none; other programs can read 'kist logs -f'")
    return text


def log_option(flag: str, text: str) -> tuple[str, int]:
    """max-size in bytes, or max-file."""
    key, _, value = text.partition("=")
    if key == "max-size":
        size = size_or_unset(flag, value)
        if size is None or size < 1 << 16:
            raise bad(flag, text, "a log file has 64 KiB at least", f"{flag} max-size=20m")
        return key, size
    if key == "max-file":
        if not value or not DIGITS.issuperset(value) or not 1 <= int(value[:9]) <= 1000:
            raise bad(flag, text, "it is no number of files from 1 to 1000", f"{flag} max-file=5")
        return key, int(value)
    raise bad(flag, text, "it is no option of the log", f"{flag} max-size=20m or max-file=5")


def health_command(flag: str, text: str) -> tuple[str, ...]:
    """As docker has it, by the container's own shell."""
    return ("/bin/sh", "-c", plain(flag, text)) if text else ()


def health_time(flag: str, text: str) -> float | None:
    """In seconds; 0 is docker's word for the default."""
    value = seconds(flag, text)
    if value and value < 0.001:
        raise bad(flag, text, "nothing can be done in that time", f"at least {flag} 1ms, or 0 for the default")
    return value or None
