"""What the verbs that make containers do about an image that is missing, or that is always to be pulled."""

from __future__ import annotations

from kist.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from kist.plan.request import RunRequest

    T = TypeVar("T")


def with_image(request: RunRequest, act: Callable[[], T]) -> T:
    """What `act` gives; the image is pulled first where --pull says so. Raises what `act` and pulling raise."""
    if request.pull == "always" and not request.rootfs and request.image != "host":
        _obtain(request, None)
    try:
        return act()
    except NotFound as e:
        if request.pull != "missing" or e.code != "no-image":
            raise
        _obtain(request, e)
    return act()


def _obtain(request: RunRequest, missing: NotFound | None) -> None:
    import sys

    from kist.engine.obtain import obtain
    from kist.faces.cli.registry_flags import transfers

    if missing and not request.quiet:
        print(f"The image {request.image} is not here: pulling it", file=sys.stderr)
    with transfers(sys.stderr, quiet=request.quiet) as progress:
        obtain(request.image, missing, progress, progress.preparing, request.platform)
