"""How fast is TCP of an ordinary user's container: kist's relay beside slirp4netns and pasta.

    python bench/relay.py [ROUNDS]

The host is a user namespace's network namespace, in which all of them are run by an ordinary user; iperf3's server is
at an address of it, and its client in turn behind each. `kist --allow-net` is the relay with a policy.
Set-up is not measured.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import harness

ADDRESS = "10.99.0.1"
CLIENT = ("iperf3", "-c", ADDRESS)
KIST = (sys.executable, "-m", "kist.faces.cli")
HOST = f"""ip link set lo up && ip link add wan type veth peer name wire && ip link set wan up && ip link set wire up &&
ip address add {ADDRESS}/24 dev wan && ip route add default via 10.99.0.2 && iperf3 -s -D && echo up &&
exec sleep inf"""


def gbit(argv: tuple[str, ...]) -> float:
    done = subprocess.run([*argv, "-J", "-t", "2", "-O", "0.3"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def slirp(stack: ExitStack, into: tuple[str, ...]) -> tuple[str, ...]:
    """A namespace with slirp4netns at its fastest: a large MTU."""
    inner = subprocess.Popen([*into, "unshare", "-Urn", "sh", "-c", "echo up; exec sleep inf"], stdout=subprocess.PIPE)
    stack.callback(inner.kill)
    assert inner.stdout
    inner.stdout.readline()
    ready, say = os.pipe()
    argv = [*into, "slirp4netns", "--configure", "--mtu=65520", f"--ready-fd={say}", str(inner.pid), "tap0"]
    process = subprocess.Popen(argv, pass_fds=(say,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(say)
    stack.callback(process.kill)
    os.read(ready, 1)
    return ("nsenter", "-t", str(inner.pid), "-U", "-n", "--preserve-credentials", *CLIENT)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    ids = ("--map-user=1000", "--map-group=1000") if os.geteuid() == 0 else ("--map-current-user",)
    speeds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "run").mkdir(mode=0o700)
        os.environ |= {"KIST_RUN_DIR": f"{directory}/run", "KIST_DATA_DIR": f"{directory}/data"}
        host = subprocess.Popen(
            ["unshare", "--user", *ids, "--keep-caps", "--net", "sh", "-c", HOST], stdout=subprocess.PIPE
        )
        stack.callback(host.kill)
        assert host.stdout
        if host.stdout.readline() != b"up\n":
            sys.exit("no host of the benchmark's own can be made")
        server = subprocess.run(
            ["nsenter", "-t", str(host.pid), "-U", "-n", "--preserve-credentials", "pidof", "-s", "iperf3"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        stack.callback(os.kill, int(server), 9)
        into = ("nsenter", "-t", str(host.pid), "-U", "-n", "--preserve-credentials")
        box = (*into, *KIST, "run", "--rm")
        cases = {
            "the host itself": (*into, *CLIENT),
            "kist --network bridge": (*box, "--network", "bridge", "host", *CLIENT),
            "kist --allow-net": (*box, "--allow-net", f"{ADDRESS}:5201", "host", *CLIENT),
        }
        if shutil.which("slirp4netns"):
            cases["slirp4netns"] = slirp(stack, into)
        if shutil.which("pasta"):
            cases["pasta"] = (*into, "pasta", "--config-net", "-q", "-f", "--", *CLIENT)
        for name, argv in list(cases.items()):
            try:
                gbit(argv)
                speeds[name] = []
            except (RuntimeError, ValueError, KeyError) as e:
                print(f"left out: {name}: {e}", file=sys.stderr)
                del cases[name]
        for _ in range(rounds):
            for name, argv in cases.items():
                time.sleep(0.2)  # the server takes one at a time
                speeds[name].append(gbit(argv))
    question = "TCP from an ordinary user's container to the host, Gbit/s"
    versions = {name: harness.version(name, "--version") for name in ("slirp4netns", "pasta") if shutil.which(name)}
    rows = {name: {"median": statistics.median(v), "best": max(v)} for name, v in speeds.items()}
    base = rows.get("slirp4netns", {"median": 0.0})["median"]
    print(f"{question}\n{'':<26}{'median':>10}{'best':>10}{'/ slirp4netns':>16}")
    for name, row in rows.items():
        row["ratio"] = row["median"] / base if base else 0.0
        print(f"{name:<26}{row['median']:>10.2f}{row['best']:>10.2f}{row['ratio']:>16.2f}")
    print(json.dumps({"question": question, "rows": rows, "versions": versions}))


if __name__ == "__main__":
    main()
