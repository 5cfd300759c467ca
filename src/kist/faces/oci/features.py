"""`kist-oci features`. Source: OCI runtime-spec features.md, features-linux.md."""

from __future__ import annotations

from kist.faces.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(name="features", usage=("",), summary="Print what this runtime can do as JSON")


def features() -> dict[str, object]:
    from kist import __version__
    from kist.faces.oci.spec import OCI_VERSION
    from kist.plan._syscalls import ABIS
    from kist.plan.facts import CAPABILITIES
    from kist.plan.mount_options import known_words
    from kist.plan.seccomp_policy import ACTIONS, FLAGS, OPERATORS
    from kist.spec.rare_runtime import CHOICES
    from kist.spec.runtime import NAMESPACE_ORDER

    flags = sorted(FLAGS)
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": known_words(),
        "linux": {
            "namespaces": sorted(NAMESPACE_ORDER),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ABIS),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
            "memoryPolicy": {
                "modes": sorted(CHOICES["MemoryPolicyMode"]), "flags": sorted(CHOICES["MemoryPolicyFlag"]),
            },
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"run.oci.kist.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [],
    }  # fmt: skip


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps

    del session, parsed
    print(dumps(features(), indent=2))
    return 0
