"""Fixtures of tests that start containers."""

from containers import no_cgroup_is_left, rootfs, run_dir

__all__ = ["no_cgroup_is_left", "rootfs", "run_dir"]
