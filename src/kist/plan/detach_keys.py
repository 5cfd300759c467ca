"""The keys that leave a container running, in what is typed. Pure."""

from __future__ import annotations


class DetachKeys:
    """Takes what is typed and gives what goes on to the container: a beginning of the keys is held back until it is
    known not to be them."""

    def __init__(self, keys: bytes) -> None:
        self._keys, self._held = keys, 0
        self.found = False

    def pass_on(self, typed: bytes) -> bytes:
        """What comes after the keys is nobody's."""
        if not self._keys or (not self._held and self._keys[0] not in typed):
            return typed
        out = bytearray()
        for byte in typed:
            if byte != self._keys[self._held]:
                out += self._keys[: self._held]
                self._held = 0
            if byte != self._keys[self._held]:
                out.append(byte)
                continue
            self._held += 1
            if self._held == len(self._keys):
                self.found = True
                break
        return bytes(out)
