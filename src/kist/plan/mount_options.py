"""The options of an OCI mount: mount(8)'s words, runc's recursive ones, and what is left for the file system.

Source: OCI config.md, "Linux mount options"; mount(8); mount_setattr(2).
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan import flags as f
from kist.plan.steps import COPY_LINK, NOFOLLOW_SOURCE, NOFOLLOW_TARGET
from kist.value import Value

# Word -> (bits to set, bits to clear) of mount_setattr(2). The atime words are one field of three bits: setting one
# clears the others.
_ATTRIBUTES = {
    "ro": (f.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, f.MOUNT_ATTR_RDONLY),
    "nosuid": (f.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, f.MOUNT_ATTR_NOSUID),
    "nodev": (f.MOUNT_ATTR_NODEV, 0),
    "dev": (0, f.MOUNT_ATTR_NODEV),
    "noexec": (f.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, f.MOUNT_ATTR_NOEXEC),
    "nodiratime": (f.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, f.MOUNT_ATTR_NODIRATIME),
    "relatime": (0, f.MOUNT_ATTR_ATIME),
    "norelatime": (0, 0),
    "noatime": (f.MOUNT_ATTR_NOATIME, f.MOUNT_ATTR_ATIME),
    "atime": (0, f.MOUNT_ATTR_ATIME),
    "strictatime": (f.MOUNT_ATTR_STRICTATIME, f.MOUNT_ATTR_ATIME),
    "nostrictatime": (0, 0),
    "nosymfollow": (f.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, f.MOUNT_ATTR_NOSYMFOLLOW),
}
_SUPERBLOCK = frozenset({"sync", "dirsync", "lazytime", "mand"})
_NOTHING = frozenset(
    {"defaults", "async", "nolazytime", "nomand", "silent", "loud", "iversion", "noiversion", "remount", "acl", "auto",
     "noauto", "user", "nouser", "users", "nofail", "_netdev"}
)  # fmt: skip
_LINKS = {"src-nofollow": NOFOLLOW_SOURCE, "dest-nofollow": NOFOLLOW_TARGET, "copy-symlink": COPY_LINK}  # crun's
_PROPAGATION = {
    "private": f.MS_PRIVATE,
    "slave": f.MS_SLAVE,
    "shared": f.MS_SHARED,
    "unbindable": f.MS_UNBINDABLE,
}


SUBPATH = "kist-subpath="


class MountOptions(Value):
    """`attributes` and `clear` for the mount itself, `all_...` for those below it, too. `data` is the file system's."""

    bind: bool = False
    recursive: bool = False
    attributes: int = 0
    clear: int = 0
    all_attributes: int = 0
    all_clear: int = 0
    propagation: int = 0
    copy_up: bool = False
    links: int = 0  # NOFOLLOW_SOURCE, NOFOLLOW_TARGET, COPY_LINK of plan.steps
    id_map: bool = False
    id_map_recursive: bool = False
    below: str = ""  # bind: only this part of the source, which nobody trusts to hold no symlinks
    data: tuple[str, ...] = ()


def propagation(word: str) -> int:
    """MS_* for `rslave`, `private`, ...; 0 for another word."""
    plain = word[1:] if word.startswith("r") and word[1:] in _PROPAGATION else word
    if plain not in _PROPAGATION:
        return 0
    return _PROPAGATION[plain] | (f.MS_REC if plain != word else 0)


def _put(bits: tuple[int, int], word: str) -> tuple[int, int]:
    """The later word wins where two contradict each other."""
    attributes, clear = bits
    on, off = _ATTRIBUTES[word]
    return (attributes & ~off) | on, (clear & ~on) | off


def parse(options: tuple[str, ...], path: str) -> MountOptions:
    """Raises InvalidInput for two propagations that contradict each other."""
    own = below = (0, 0)
    flags: dict[str, object] = {}
    data = []
    for word in options:
        if word in _ATTRIBUTES:
            own = _put(own, word)
        elif word.startswith("r") and word[1:] in _ATTRIBUTES:
            below = _put(below, word[1:])
        elif found := propagation(word):
            if flags.get("propagation", found) != found:
                raise InvalidInput(f"{word} contradicts another propagation", path=path)
            flags["propagation"] = found
        elif word in ("bind", "rbind"):
            flags |= {"bind": True, "recursive": word == "rbind" or flags.get("recursive", False)}
        elif word == "tmpcopyup":
            flags["copy_up"] = True
        elif word in _LINKS:
            flags["links"] = int(flags.get("links", 0)) | _LINKS[word]  # type: ignore[call-overload]
        elif word in ("idmap", "ridmap"):
            flags |= {"id_map": True, "id_map_recursive": word == "ridmap"}
        elif word.startswith(SUBPATH):
            flags["below"] = word[len(SUBPATH) :]
        elif word and word not in _NOTHING:
            data.append(word)
    attributes = {"attributes": own[0], "clear": own[1], "all_attributes": below[0], "all_clear": below[1]}
    return MountOptions(**attributes, **flags, data=tuple(data))  # type: ignore[arg-type]


def known_words() -> list[str]:
    """Every word that has a meaning here; others go to the file system."""
    ours = {
        *_ATTRIBUTES,
        *_LINKS,
        *_SUPERBLOCK,
        *_NOTHING,
        *_PROPAGATION,
        "bind",
        "rbind",
        "tmpcopyup",
        "idmap",
        "ridmap",
    }
    return sorted(ours | {f"r{word}" for word in (*_ATTRIBUTES, *_PROPAGATION)})
