"""Compile the launcher and the commands that start Python: `pip install .` needs a C compiler, no more."""

import os
import subprocess
from pathlib import Path

from setuptools import Distribution, setup  # isort: skip: before distutils, which it brings along
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

from distutils.command.build_scripts import build_scripts  # isort: skip

HERE = Path(__file__).resolve().parent


class BuildLauncher(build_py):
    def run(self) -> None:
        made = subprocess.run(["make", "-s", "-C", str(HERE / "launcher")], check=False, env=os.environ)
        if made.returncode:  # no Exception: setuptools makes a warning of those when it builds an editable package
            raise SystemExit("kist's launcher could not be compiled: see above")
        super().run()


class CopyPrograms(build_scripts):
    """Scripts get their interpreter's name; a program is copied as it is."""

    def copy_scripts(self) -> tuple[list[str], list[str]]:
        programs = [name for name in self.scripts if name.startswith("launcher/")]
        self.scripts = [name for name in self.scripts if name not in programs]
        made, updated = super().copy_scripts()
        for name in programs:
            copy, done = self.copy_file(name, str(Path(self.build_dir, Path(name).name)))
            made.append(copy)
            updated += [copy] if done else []
        return made, updated


class PlatformWheel(bdist_wheel):
    """The wheel holds a machine's binary but no Python extension: py3-none-<platform>."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


# Not console_scripts: the wrapper that pip 23 writes imports re, 8 ms of each start.
setup(
    scripts=["bin/kist-python", "bin/kist-oci-python", "launcher/kist", "launcher/kist-oci"],
    cmdclass={"build_py": BuildLauncher, "build_scripts": CopyPrograms, "bdist_wheel": PlatformWheel},
    distclass=BinaryDistribution,
)
