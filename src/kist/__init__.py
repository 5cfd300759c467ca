"""kist runs, connects and explains Linux containers. `kist.run(["python", "-c", src], memory="256M", timeout=5)`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.python import Result, run

__all__ = ["Result", "__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The public names, loaded when first asked for: the command line does not need them."""
    if name not in __all__:
        raise AttributeError(f"module 'kist' has no attribute {name!r}")
    from kist.faces import python

    value: object = getattr(python, name)
    globals()[name] = value
    return value
