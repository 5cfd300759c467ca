"""--allow-net from the command line and from Python: what it lets through, keeps, shows. Attacks: tests/attack."""

import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST, ROOT
from internet import DNS, FILES, HOST, PYPI, Internet, internet, missing
from machine import wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(params=["root", "user"] if ROOT else ["user"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Internet]:
    (tmp_path / "net").mkdir()
    with internet(tmp_path / "net", request.param == "user") as made:
        yield made


def _wheel(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny.py", "print('tiny is here')\n")
        about = "tiny-1.0.dist-info"
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "tiny.py,,\n")


def test_pip_installs_from_an_index_on_the_list(net: Internet) -> None:
    """The index and the files are at different names; what leads elsewhere is not fetched."""
    pages = net.directory / "pages"
    _wheel(pages / "tiny-1.0-py3-none-any.whl")
    for project, host in (("tiny", "files.pythonhosted.test"), ("bad", "evil.test")):
        (pages / "simple" / project).mkdir(parents=True)
        link = f"https://{host}/{project}-1.0-py3-none-any.whl"
        (pages / "simple" / project / "index.html").write_text(f'<!DOCTYPE html><a href="{link}">{project}</a>')
    python = os.path.normpath(sys.executable)
    shown = {os.path.normpath(sys.prefix), sys.base_prefix, str(net.directory)} - {"/usr"}
    pip = (f"{python} -m pip install -q --disable-pip-version-check --no-cache-dir --retries 0 --target /tmp/t"
           f" --index-url https://pypi.test/simple/ --cert {net.ca}")  # fmt: skip
    script = f"{pip} tiny && PYTHONPATH=/tmp/t {python} -m tiny; {pip} bad"
    allowed = ("--allow-net", "pypi.test:443, *.pythonhosted.test", "--dns", DNS)
    volumes = [word for path in shown for word in ("-v", f"{path}:{path}:ro")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    done = net.run(*KIST, "run", "--name", "job", *allowed, *volumes, "-e", "PIP_CONFIG_FILE=/dev/null", "host", "sh",
                   "-c", script, env=environment)  # fmt: skip
    assert done.returncode == 1 and "tiny is here" in done.stdout, done.stderr
    heard = net.heard()
    assert f"tls {PYPI} pypi.test" in heard and f"tls {FILES} files.pythonhosted.test" in heard
    log = net.run(*KIST, "logs", "--net", "job")
    assert "dns evil.test: not on the list" in log.stdout, log
    shown_rules = net.run(*KIST, "inspect", "--format", "{{json .HostConfig.AllowNet}}", "job").stdout
    assert shown_rules == '["pypi.test:443","*.pythonhosted.test:80","*.pythonhosted.test:443"]\n'
    assert net.run(*KIST, "rm", "job").returncode == 0


def test_many_connections_at_once_and_what_they_carry(net: Internet) -> None:
    """More than one pipe's room each way, both ends closing."""
    script = """
import hashlib, socket, threading
def one(n):
    s = socket.create_connection(("pypi.test", 22), 20)
    assert s.recv(100).startswith(b"hello from"), n
    s.sendall(b"%d" % n)
    s.shutdown(socket.SHUT_WR)
    assert s.makefile("rb").read() == b"%d" % n
    done.append(n)
done = []
threads = [threading.Thread(target=one, args=(n,)) for n in range(60)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(done))
"""
    command = ("run", "--rm", "--allow-net", "pypi.test:22/tcp", "--dns", DNS, "host", "python3", "-c", script)
    done = net.run(*KIST, *command)
    assert done.stdout == "60\n", done.stderr


def test_one_that_runs_in_the_background(net: Internet) -> None:
    """Its denials are shown while it runs; no network may be connected; what enters it has no other way out."""
    box = ("--name", "box", "--allow-net", "pypi.test", "--dns", DNS, "-p", "8080:80")
    server = ("python3", "-m", "http.server", "-d", "/etc", "80")
    assert net.run(*KIST, "run", "-d", *box, "host", *server).returncode == 0
    script = "import urllib.request; print(urllib.request.urlopen('http://pypi.test/', timeout=20).read())"
    done = net.run(*KIST, "exec", "box", "sh", "-c", f'getent hosts evil.test; python3 -c "{script}"')
    assert PYPI in done.stdout, done.stderr
    assert "dns evil.test: not on the list" in net.run(*KIST, "logs", "--net", "box").stdout
    hosts = f"import urllib.request; print(urllib.request.urlopen('http://{HOST}:8080/hosts', timeout=20).read())"
    wait_until(lambda: b"localhost" in net.run(sys.executable, "-c", hosts).stdout.encode())
    assert net.run(*KIST, "port", "box").stdout.splitlines() == ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]
    done = net.run(*KIST, "network", "connect", "bridge", "box")
    assert done.returncode and "no other way out" in done.stderr
    assert net.run(*KIST, "rm", "-f", "box").returncode == 0


def test_logs_of_one_that_is_free(net: Internet) -> None:
    assert net.run(*KIST, "run", "--name", "free", "host", "true").returncode == 0
    done = net.run(*KIST, "logs", "--net", "free")
    assert done.returncode and "without --allow-net" in done.stderr
    assert net.run(*KIST, "rm", "free").returncode == 0
