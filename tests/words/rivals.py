"""Whose command line is tried, and what the others cannot do here."""

import os

import pytest

from kist.kernel.probe import probe
from kist.plan.facts import CAPABILITIES

CLI = os.environ.get("CLI", "kist")
MUCH_BYTES = (1 << 30) if os.environ.get("KIST_LONG") else 48 << 20  # more than buffers, or two files of a log, hold

needs_timers = pytest.mark.skipif(
    CLI == "podman" and not os.path.isdir("/run/systemd/system"),
    reason="podman's health checks are timers of systemd's",
)
needs_all_capabilities = pytest.mark.skipif(
    CLI == "docker" and not set(CAPABILITIES[: probe().cap_last + 1]) <= set(probe().capabilities),
    reason="docker's --privileged gives all that the kernel knows, and fails where root does not have them",
)
