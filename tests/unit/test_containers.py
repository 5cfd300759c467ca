"""The directories of containers that are kept."""

import os

from kist.engine.containers import Config, Containers
from kist.engine.state import StateDirectory
from kist.plan.request import RunRequest


def test_a_sweep_between_making_and_locking_takes_nothing_away(tmp_path, monkeypatch):
    containers = Containers(str(tmp_path / "data"), StateDirectory(str(tmp_path / "run")))
    containers.prepare()
    made, sweeps = os.mkdir, []

    def mkdir(path, *mode, **where):
        made(path, *mode, **where)
        if "/.new-" in str(path) and not sweeps:
            sweeps.append(path)
            Containers(str(tmp_path / "data"), containers.states).prepare()
            assert not os.path.exists(path)

    monkeypatch.setattr(os, "mkdir", mkdir)
    container = containers.add(Config("ab" * 32, "web", 1, RunRequest(image="box")))
    assert sweeps
    assert containers.find("web").id == container.id
    assert os.listdir(container.path)
