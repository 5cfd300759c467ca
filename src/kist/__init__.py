"""kist runs, connects and explains Linux containers. `kist.run(["python", "-c", src], memory="256M", timeout=5)`."""

from kist.faces.python import Result, run

__all__ = ["Result", "run"]
