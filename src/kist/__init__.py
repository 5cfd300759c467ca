"""kist runs, connects and explains Linux containers. `kist.run(["python", "-c", src], memory="256M", timeout=5)`."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.images import (
        Image,
        Removed,
        image,
        images,
        import_image,
        load,
        pull,
        push,
        remove_image,
        save,
        tag,
    )
    from kist.faces.python import Result, run

__all__ = [
    "Image", "Removed", "Result", "__version__", "image", "images", "import_image", "load", "pull", "push",
    "remove_image", "run", "save", "tag",
]  # fmt: skip
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The public names, loaded when first asked for: the command line does not need them."""
    if name not in __all__:
        raise AttributeError(f"module 'kist' has no attribute {name!r}")
    from kist.faces import images, python

    value: object = getattr(python if name in ("Result", "run") else images, name)
    globals()[name] = value
    return value
