"""Flags that name paths: mounts, devices, working directory."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput, KistError, Unsupported
from kist.plan import mount_values as m
from kist.plan.request import DeviceRate, DeviceRequest, DeviceRule, MountRequest, SecretRequest


def volume(text: str) -> MountRequest:
    return m.volume("--volume", text, "/home/ann")


def mount(text: str) -> MountRequest:
    return m.mount("--mount", text, "/home/ann")


def tmpfs(text: str) -> MountRequest:
    return m.tmpfs("--tmpfs", text)


def bind(source: str, target: str, **fields: object) -> dict[str, object]:
    return {"kind": "bind", "source": source, "target": target, **fields}


VOLUMES = [
    ("/a:/b", bind("/a", "/b")),
    ("/a/../c/:/b//d/", bind("/c", "/b/d")),
    (".:/b", bind("/home/ann", "/b")),
    ("./x:/b", bind("/home/ann/x", "/b")),
    ("../x:/b", bind("/home/x", "/b")),
    (".hidden:/b", bind("/home/ann/.hidden", "/b")),
    ("/a:/b:ro", bind("/a", "/b", readonly=True)),
    ("/a:/b:rw,z,rshared", bind("/a", "/b", relabel="z", propagation="rshared")),
    ("/a:/b:Z,cached,ro", bind("/a", "/b", relabel="Z", readonly=True)),
    ("/:/host", bind("/", "/host")),
]


@pytest.mark.parametrize(("text", "fields"), VOLUMES)
def test_volumes(text: str, fields: dict[str, object]) -> None:
    request = volume(text)
    assert request.create_source  # as docker does for -v
    assert {k: getattr(request, k) for k in fields} == fields
    assert request == MountRequest(**{"create_source": True, **fields})


CONTRADICTIONS = ["/a:/b:rw,ro", "/a:/b:z,Z", "/a:/b:shared,private"]
UNKNOWN = ["/a:/b:nocopy", "/a:/b:readonly", "/a:/b:,"]


@pytest.mark.parametrize(
    "text",
    [
        *CONTRADICTIONS,
        *UNKNOWN,
        "",
        ":",
        "/a:",
        ":/b",
        "/a:/b:",
        "/a:/b:ro:x",
        "/a:b",
        "/a:./b",
        "/a:/",
        "/a:/b/..",
        "~/x:/b",
        "~:/b",
    ],
)
def test_volumes_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        volume(text)
    assert caught.value.path == "--volume"


def test_named_and_anonymous_volumes() -> None:
    assert volume("data:/b") == MountRequest(kind="volume", source="data", target="/b")
    assert volume("data:/b:ro,nocopy") == MountRequest(
        kind="volume", source="data", target="/b", readonly=True, nocopy=True
    )
    assert volume("/b") == MountRequest(kind="volume", target="/b")


@pytest.mark.parametrize("text", ["a:/b", "d@ta:/b", "data:b", "data:/b:x", "d:a:/b", "b", "-x:/b", "x" * 201 + ":/b"])
def test_names_of_volumes_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        volume(text)


MOUNTS: list[tuple[str, dict[str, object]]] = [
    ("type=bind,source=/a,target=/b", bind("/a", "/b")),
    ("type=bind,src=./a,dst=/b,ro", bind("/home/ann/a", "/b", readonly=True)),
    ("TYPE=BIND,Source=/a,destination=/b,readonly=false", bind("/a", "/b")),
    ('type=bind,"source=/a,b",target=/c', bind("/a,b", "/c")),
    ('type=bind,"source=/a""b",target=/c', bind('/a"b', "/c")),
    ("type=bind,source=/a=b,target=/c", bind("/a=b", "/c")),
    (" type=bind,source=/a,target=/b ", bind("/a", "/b")),
    ("type=bind,source=/a,target=/b,bind-propagation=rslave", bind("/a", "/b", propagation="rslave")),
    ("type=bind,source=/a,target=/b,bind-recursive=disabled", bind("/a", "/b", recursive=False)),
    ("type=bind,source=/a,target=/b,ro,bind-recursive=readonly", bind("/a", "/b", readonly=True)),
    (
        "type=bind,source=/a,target=/b,readonly,bind-recursive=writable",
        bind("/a", "/b", readonly=True, writable_submounts=True),
    ),
    ("type=bind,source=/a,target=/b,bind-create-src", bind("/a", "/b", create_source=True)),
    ("type=bind,source=/a,target=/b,consistency=cached", bind("/a", "/b")),
    ("type=tmpfs,target=/t", {"kind": "tmpfs", "target": "/t"}),
    (
        "type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=1770,readonly",
        {"kind": "tmpfs", "target": "/t", "size_bytes": 64 << 20, "mode": 0o1770, "readonly": True},
    ),
]


@pytest.mark.parametrize(("text", "fields"), MOUNTS)
def test_mounts(text: str, fields: dict[str, object]) -> None:
    assert mount(text) == MountRequest(**fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type=bind",
        "type=bind,source=/a",
        "type=bind,target=/b",
        "type=bind,source=a,target=/b",
        "type=bind,source=/a,target=b",
        "type=bind,source=/a,target=/",
        "type=bind,source=/a,target=",
        "type=bind,source=/a,target= /b",
        "type=bind,source=/a,target=/b,",
        "type=bind,source=/a,target=/b,foo=1",
        "type=bind,source=/a,target=/b,target",
        "type=bind,source=/a,target=/b,readonly=maybe",
        "type=bind,source=/a,target=/b,bind-recursive=no",
        "type=bind,source=/a,target=/b,bind-recursive=writable",
        "type=bind,source=/a,target=/b,bind-propagation=up",
        "type=bind,source=/a,target=/b,tmpfs-size=1m",
        "type=bind,source=/a,target=/b,volume-nocopy",
        'type=bind,source="/a",target=/b',
        'type=bind,"source=/a,target=/b',
        'type=bind,"source=/a"x,target=/b',
        "type=tmpfs,target=/b,source=/a",
        "type=tmpfs,target=/b,tmpfs-size=x",
        "type=tmpfs,target=/b,tmpfs-mode=9",
        "type=tmpfs,target=/b,tmpfs-mode=77777",
        "type=npipe,source=/a,target=/b",
    ],
)
def test_mounts_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mount(text)
    assert caught.value.path == "--mount"
    assert caught.value.why


def test_mounts_of_images_come_later() -> None:
    with pytest.raises(Unsupported):
        mount("type=image,source=x,target=/b")


def test_mounts_of_volumes() -> None:
    assert mount("source=data,target=/b") == MountRequest(kind="volume", source="data", target="/b")
    assert mount("type=volume,target=/b,ro") == MountRequest(kind="volume", target="/b", readonly=True)
    found = mount(
        "type=volume,src=data,dst=/b,volume-subpath=a/b,volume-nocopy,volume-label=k=v,volume-label=l,"
        "volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    )
    assert (found.subpath, found.nocopy, found.labels) == ("a/b", True, {"k": "v", "l": ""})
    assert found.driver_options == {"type": "tmpfs", "device": "tmpfs"}


@pytest.mark.parametrize("word", ["source=/a", "volume-subpath=../x", "volume-subpath=/x", "volume-driver=nfs",
                                  "volume-opt=x=y", "volume-opt=type", "bind-propagation=rshared"])  # fmt: skip
def test_mounts_of_volumes_refused(word: str) -> None:
    with pytest.raises(InvalidInput):
        mount(f"type=volume,target=/b,{word}")


def test_secrets() -> None:
    assert m.secret("--secret", "key") == SecretRequest("key", "/run/secrets/key")
    assert m.secret("--secret", "key,target=a/b,mode=0400,uid=5,gid=6") == SecretRequest(
        "key", "/run/secrets/a/b", 0o400, 5, 6
    )
    for text in ("", "a/b", "key,target=/etc/passwd", "key,target=../x", "key,mode=9", "key,uid=x", "key,type=env"):
        with pytest.raises(InvalidInput):
            m.secret("--secret", text)


def test_tmpfs() -> None:
    assert tmpfs("/t") == MountRequest(kind="tmpfs", target="/t")
    assert tmpfs("/t:size=64m,mode=1777,ro,exec,uid=5") == MountRequest(
        kind="tmpfs", target="/t", size_bytes=64 << 20, mode=0o1777, readonly=True, options=("exec", "uid=5")
    )
    assert tmpfs("/t:size=50%").options == ("size=50%",)


@pytest.mark.parametrize(
    "text",
    ["", "t", "/", "/t:foo", "/t:size=x", "/t:mode=rwx", "/t:size", "/t:uid=", "/t:exec,", "/t:bind", "/t:uid=\n"],
)
def test_tmpfs_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        tmpfs(text)


def test_devices() -> None:
    assert m.device("--device", "/dev/fuse") == DeviceRequest("/dev/fuse", "/dev/fuse", "rwm")
    assert m.device("--device", "/dev/a:/dev/b") == DeviceRequest("/dev/a", "/dev/b", "rwm")
    assert m.device("--device", "/dev/a:mr") == DeviceRequest("/dev/a", "/dev/a", "rm")
    assert m.device("--device", "/dev/a:/dev/../x:w") == DeviceRequest("/dev/a", "/x", "w")
    with pytest.raises(Unsupported):
        m.device("--device", "vendor.com/gpu=0")


@pytest.mark.parametrize(
    "text",
    ["", ":", "fuse", "/dev/a:", "/dev/a:x", "/dev/a:rr", "/dev/a:/b:", "/dev/a:/b:rwx", "/a:/b:r:w", "/a:b:r", "/a:/"],
)
def test_devices_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        m.device("--device", text)


def test_limits_of_devices() -> None:
    assert m.device_bps("-", "/dev/sda:1mb") == DeviceRate("/dev/sda", 1 << 20)
    assert m.device_iops("-", "/dev/sda:1000") == DeviceRate("/dev/sda", 1000)
    assert m.device_weight("-", "/dev/sda:10") == DeviceRate("/dev/sda", 10)
    by_path = "/dev/disk/by-path/pci-0000:00:01.0"
    assert m.device_iops("-", f"{by_path}:5") == DeviceRate(by_path, 5)


@pytest.mark.parametrize(
    ("parse", "text"),
    [(m.device_bps, t) for t in ("", "/dev/sda", "/dev/sda:", "/dev/sda:0", "/dev/sda:-1", "sda:1", "/dev/../etc:1")]
    + [(m.device_iops, t) for t in ("/dev/sda:1m", "/dev/sda:0", "/dev/sda:-1", "/tmp/x:1")]
    + [(m.device_weight, t) for t in ("/dev/sda:9", "/dev/sda:1001", "/dev/sda:x")],
)
def test_limits_of_devices_refused(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(InvalidInput):
        parse("--device-flag", text)


def test_device_rules() -> None:
    assert m.device_rule("-", "c 10:229 rwm") == DeviceRule("c", 10, 229, "rwm")
    assert m.device_rule("-", "a *:* mwr") == DeviceRule("a", -1, -1, "rwm")


@pytest.mark.parametrize(
    "text",
    ["", "c", "c 1:3", "c 1:3 x", "d 1:3 r", "c 1 r", "c -1:3 r", "c 1:-1 r", "c +1:3 r", "c 4096:0 r", "c 1:2:3 r"],
)
def test_device_rules_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        m.device_rule("--device-cgroup-rule", text)


def test_paths() -> None:
    assert m.workdir("-", "//a/./b/..") == "/a"
    assert m.workdir("-", "/../..") == "/"
    assert m.host_path("-", "x", "x", "//srv") == "/srv/x"
    assert m.cgroup_parent("-", "/a/b") == "/a/b"
    assert m.cgroup_parent("-", "my.slice") == "my.slice"
    for text in ("a", "", "~/a"):
        with pytest.raises(InvalidInput):
            m.workdir("-", text)
    for text in ("", "/", "..", "/a/../b", "/a/.", "a\nb"):
        with pytest.raises(InvalidInput):
            m.cgroup_parent("-", text)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8), min_size=1, max_size=5))
def test_csv_round_trip(fields: list[str]) -> None:
    text = ",".join('"' + f.replace('"', '""') + '"' for f in fields)
    assert m.csv_fields("--mount", text) == fields


TEXT = (
    st.text(max_size=30)
    | st.text('abc/.:,="=0159mrwz~%\0 ', max_size=20)
    | st.from_regex(
        r"type=(bind|tmpfs),(source|src|dst|target|ro|tmpfs-mode)=[/.a\"0-9]*(,[a-z-]*=?[^,]*)?", fullmatch=True
    )
)
PARSERS = [m.tmpfs, m.device, m.device_bps, m.device_iops, m.device_weight, m.device_rule, m.workdir, m.cgroup_parent,
           m.secret, m.volumes_from]  # fmt: skip


@given(TEXT)
def test_parsers_end_in_a_value_or_an_error_of_ours(text: str) -> None:
    for parse in (volume, mount, *(lambda t, p=p: p("--flag", t) for p in PARSERS)):
        try:
            value = parse(text)
        except KistError:
            continue
        if isinstance(value, MountRequest):
            assert value.target.startswith("/") and value.target != "/"
            assert ".." not in value.target.split("/")
            assert value.kind == "tmpfs" or value.source.startswith("/") or "/" not in value.source
            assert value.kind != "bind" or value.source.startswith("/")
