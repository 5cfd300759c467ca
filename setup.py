"""Compile the launcher into the package: `pip install .` needs a C compiler and the kernel's headers, nothing else."""

import os
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class BuildLauncher(build_py):
    def run(self) -> None:
        made = subprocess.run(["make", "-s", "-C", str(HERE / "launcher")], check=False, env=os.environ)
        if made.returncode:  # no Exception: setuptools makes a warning of those when it builds an editable package
            raise SystemExit("kist's launcher could not be compiled: see above")
        super().run()


class PlatformWheel(bdist_wheel):
    """The wheel holds a machine's binary but no Python extension: py3-none-<platform>."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


# Not console_scripts: the wrapper that pip 23 writes imports re, 8 ms of each start.
setup(
    scripts=["bin/kist", "bin/kist-oci"],
    cmdclass={"build_py": BuildLauncher, "bdist_wheel": PlatformWheel},
    distclass=BinaryDistribution,
)
