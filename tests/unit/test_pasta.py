import pytest
from facts import ROOT_V2

from kist.errors import KistError
from kist.network import pasta
from kist.plan.request import RunRequest
from kist.value import replace


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """A pasta that is there, and a device that may be opened."""
    program = tmp_path / "pasta"
    program.write_text("#!/bin/true\n")
    program.chmod(0o755)
    monkeypatch.setattr(pasta, "_SEARCH", str(tmp_path))
    monkeypatch.setattr(pasta, "_TUN", "/dev/null")
    return program


def argv(network: str) -> tuple[str, ...]:
    return pasta.attach(RunRequest(image="host", network=network), replace(ROOT_V2, uid=1000)).pasta[1:]


def test_as_podman_has_it():
    assert " ".join(argv("pasta")) == (
        "--config-net --quiet --netns-only -t none -u none -T none -U none --dns-forward 169.254.1.1 --no-map-gw"
    )


def test_options_take_the_place_of_ours():
    words = argv("pasta:-T,5432,--map-gw,--mtu,1400")
    assert words[-4:] == ("-T", "5432", "--mtu", "1400")
    assert "--no-map-gw" not in words and words.count("-T") == 1


def test_what_is_missing_is_said(installed):
    with pytest.raises(KistError, match="may not open /nowhere"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pasta, "_TUN", "/nowhere")
        argv("pasta")
    installed.unlink()
    with pytest.raises(KistError, match="not installed"):
        argv("pasta")
    with pytest.raises(KistError, match="ordinary users"):
        pasta.attach(RunRequest(image="host", network="pasta"), replace(ROOT_V2, uid=0))
