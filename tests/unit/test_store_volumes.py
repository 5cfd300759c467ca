"""The store's volumes and secrets, without containers."""

import os
import threading

import pytest

from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.store.secrets import BYTES_MAX, Secrets
from kist.store.volumes import Volumes


def test_create_get_list_remove(tmp_path):
    volumes = Volumes(str(tmp_path))
    assert volumes.list() == []
    made = volumes.create("b", {"k": "v"})
    assert volumes.create("b") == made  # once more is fine
    anonymous = volumes.create(anonymous=True)
    assert [volume.name for volume in volumes.list()] == sorted(["b", anonymous.name])
    assert volumes.get("b").labels == {"k": "v"}
    assert volumes.find(anonymous.name[:12]) == anonymous
    assert os.stat(volumes.path("b")).st_mode & 0o777 == 0o755
    with pytest.raises(Conflict):
        volumes.create("b", options={"type": "tmpfs"})
    with volumes.removing():
        volumes.remove("b")
    with pytest.raises(NotFound):
        volumes.get("b")
    assert os.listdir(tmp_path / "volumes") == [anonymous.name]


@pytest.mark.parametrize("name", ["..", "../volumes/b", ".new-x", "b/_data", ""])
def test_names_are_names(tmp_path, name):
    volumes = Volumes(str(tmp_path))
    volumes.create("b")
    with pytest.raises(NotFound):
        volumes.get(name)
    with pytest.raises(NotFound):
        volumes.remove(name)


def test_a_damaged_one_can_be_seen_and_removed(tmp_path):
    volumes = Volumes(str(tmp_path))
    volumes.create("b")
    (tmp_path / "volumes/b/meta").write_text("{")
    with pytest.raises(CorruptStore):
        volumes.get("b")
    assert [volume.name for volume in volumes.list()] == ["b"]
    volumes.remove("b")
    assert volumes.list() == []


def test_what_killed_commands_left_is_not_a_volume_and_goes(tmp_path):
    volumes = Volumes(str(tmp_path))
    volumes.create("b")
    for name in (".new-1", ".gone-2"):
        (tmp_path / "volumes" / name / "_data").mkdir(parents=True)
        os.utime(tmp_path / "volumes" / name, (0, 0))
    assert volumes.names() == ["b"]
    volumes.create("c")
    assert sorted(os.listdir(tmp_path / "volumes")) == ["b", "c"]


def test_many_create_one(tmp_path):
    volumes, made = Volumes(str(tmp_path)), []
    threads = [threading.Thread(target=lambda: made.append(volumes.create("one"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 16
    assert len(set(made and [volume.created_ns for volume in made])) == 1
    assert os.listdir(tmp_path / "volumes") == ["one"]


def test_secrets(tmp_path):
    secrets = Secrets(str(tmp_path))
    made = secrets.create("pw", b"\0hidden", {"a": "b"})
    assert secrets.reveal("pw") == b"\0hidden"
    assert secrets.find(made.id[:6]).name == "pw"
    assert "hidden" not in repr(made) and made.data not in repr(made)
    assert os.stat(tmp_path / "secrets/pw").st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        secrets.create("pw", b"x")
    again = secrets.create("pw", b"x", replace=True)
    assert (again.id, again.created_ns) == (made.id, made.created_ns)
    for data in (b"", bytes(BYTES_MAX + 1)):
        with pytest.raises(InvalidInput):
            secrets.create("other", data)
    secrets.remove(again)
    with pytest.raises(NotFound):
        secrets.reveal("pw")


def test_a_damaged_secret_is_not_shown(tmp_path):
    secrets = Secrets(str(tmp_path))
    secrets.create("pw", b"hidden")
    path = tmp_path / "secrets/pw"
    path.write_text(path.read_text()[:-1] + ",hidden")
    with pytest.raises(CorruptStore) as caught:
        secrets.list()
    assert "hidden" not in str(caught.value)
