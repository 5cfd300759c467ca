"""Volumes: directories with names, which outlive the containers that use them.

    DATA/volumes/NAME/_data     what is in it
    DATA/volumes/NAME/meta      what is known about it: Volume
    DATA/volumes/NAME/copying   what an image has there is being copied into it: if nobody is, it is to be done again

A volume appears, and goes, by rename(2). Whoever is about to use one holds the lock of DATA/volumes, shared, until
others can see that it does; whoever removes one holds it alone.
"""

from __future__ import annotations

import fcntl
import os

from kist.codec import decode_text, dumps
from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.store.data import StoreErrors, check_private, create, default_data_dir, sync_directory, write_new
from kist.store.tree import OPEN_DIRECTORY, remove_tree
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DATA, META, COPYING = "_data", "meta", "copying"


class Volume(Value):
    """`options`: type, o and device as `mount` takes them; none for what is simply a directory of the store.
    `anonymous`: made for one container, and removed with it when asked to."""

    name: str
    created_ns: int
    labels: Mapping[str, str] = {}
    options: Mapping[str, str] = {}
    anonymous: bool = False


class Volumes:
    """All volumes of this user. Safe for concurrent processes. Nothing is made before the first volume."""

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = data_dir or default_data_dir(os.environ)
        self.base = f"{self.data_dir}/volumes"

    def path(self, name: str) -> str:
        """Where its files are."""
        return f"{self.base}/{name}/{DATA}"

    def create(
        self, name: str = "", labels: Mapping[str, str] = {}, options: Mapping[str, str] = {}, *,
        anonymous: bool = False,
    ) -> Volume:  # fmt: skip
        """A volume of that name, or of one that nobody has. One that exists is fine, when it has the same options.

        Raises Conflict, KistError (disk-full, store-io).
        """
        import time

        volume = Volume(name or os.urandom(32).hex(), time.time_ns(), dict(labels), dict(options), anonymous)
        making = f".new-{os.urandom(8).hex()}"
        with StoreErrors(f"cannot make the volume {volume.name}"):
            create(self.data_dir)
            os.makedirs(self.base, 0o700, exist_ok=True)
            self._sweep()
            try:
                self._make(f"{self.base}/{making}", volume)
                os.rename(f"{self.base}/{making}", f"{self.base}/{volume.name}")
                sync_directory(self.base)
                return volume
            except OSError as e:
                if not os.path.isdir(f"{self.base}/{volume.name}"):
                    raise
                found = self.get(volume.name)
                if options and found.options != volume.options:
                    raise Conflict(f"there is a volume {volume.name} with other options", next="another name") from e
                return found
            finally:
                self._discard(making)

    def _make(self, path: str, volume: Volume) -> None:
        os.mkdir(path, 0o700)
        os.mkdir(f"{path}/{DATA}", 0o755)
        os.chmod(f"{path}/{DATA}", 0o755)  # whatever the umask: programs of all users may look into it
        write_new(f"{path}/{META}", dumps(volume).encode("utf-8", "surrogateescape"))

    def get(self, name: str) -> Volume:
        """Raises NotFound, CorruptStore."""
        path = f"{self.base}/{name}/{META}"
        try:
            if not name or "/" in name or name.startswith("."):
                raise FileNotFoundError
            with open(path, "rb", buffering=0) as file:
                return decode_text(Volume, file.read(), path)
        except (FileNotFoundError, NotADirectoryError) as e:
            from kist.plan.words import nearest, show

            near = nearest(name, self.names())
            next_ = f"did you mean {near!r}?" if near else "kist volume ls lists them"
            raise NotFound(f"no volume {show(name)}", next=next_, code="no-volume") from e
        except InvalidInput as e:
            raise CorruptStore(f"the volume {name} is damaged", why=str(e), next=f"kist volume rm -f {name}") from e

    def find(self, text: str) -> Volume:
        """By its name or, as docker has it for long ones, the beginning of it that only one has."""
        names = self.names()
        starting = [name for name in names if len(text) >= 12 and name.startswith(text)]
        return self.get(starting[0] if text not in names and len(starting) == 1 else text)

    def names(self) -> list[str]:
        try:
            check_private(self.data_dir)
            return sorted([name for name in os.listdir(self.base) if not name.startswith(".")])
        except FileNotFoundError:
            return []

    def list(self) -> list[Volume]:
        """By name. One that is damaged is shown all the same: without what is known about it."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except CorruptStore:
                found.append(Volume(name, 0))
            except NotFound:
                continue  # removed meanwhile, or its file is lost
        return found

    def remove(self, name: str) -> None:
        """With the lock held alone, and nobody using it. Raises NotFound, KistError."""
        gone = f".gone-{os.urandom(8).hex()}"
        with StoreErrors(f"cannot remove the volume {name}"):
            try:
                if not name or "/" in name or name.startswith("."):
                    raise FileNotFoundError
                os.rename(f"{self.base}/{name}", f"{self.base}/{gone}")
            except FileNotFoundError as e:
                raise NotFound(f"no volume {name}", next="kist volume ls lists them", code="no-volume") from e
            self._discard(gone)

    def using(self) -> Lock:
        """While somebody is about to use volumes."""
        return self._lock(fcntl.LOCK_SH)

    def removing(self) -> Lock:
        return self._lock(fcntl.LOCK_EX)

    def filling(self, name: str) -> Lock:
        """While a volume is filled with what an image has."""
        return Lock(f"{self.base}/{name}", fcntl.LOCK_EX)

    def _lock(self, how: int) -> Lock:
        with StoreErrors(f"cannot make {self.base}"):
            create(self.data_dir)
            os.makedirs(self.base, 0o700, exist_ok=True)
            return Lock(self.base, how)

    def _sweep(self) -> None:
        """What killed commands left; nobody else looks at it."""
        import time

        for name in os.listdir(self.base):
            try:
                young = time.time() - os.lstat(f"{self.base}/{name}").st_mtime < 60
            except FileNotFoundError:
                continue
            if name.startswith(".gone-") or (name.startswith(".new-") and not young):
                self._discard(name)

    def _discard(self, name: str) -> None:
        if not os.path.lexists(f"{self.base}/{name}"):
            return
        fd = os.open(self.base, OPEN_DIRECTORY)
        try:
            remove_tree(fd, name)
        except PermissionError:
            from kist.store.rootless import remove  # files of the user's subordinate ids

            remove(f"{self.base}/{name}")
        finally:
            os.close(fd)

    def empty(self, name: str) -> None:
        """Remove all files in it: what was copied into it before a crash. Raises OSError."""
        for entry in os.listdir(self.path(name)):
            self._discard(f"{name}/{DATA}/{entry}")


class Lock:
    """A directory locked with flock(2), until `close` or the end of the block. Raises OSError."""

    def __init__(self, path: str, how: int) -> None:
        self._fd = os.open(path, OPEN_DIRECTORY)
        try:
            fcntl.flock(self._fd, how)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
