"""What speaks to the service from outside: the wire protocol and the clients.

Nothing here knows the server: `wire` is shared by both ends, `python` needs only it. The folder `browser` has ES
modules for web pages. `python/pyproject.toml` packs `wire` and `python` as `afterimage_client`. The names of
`python` are here too, and imported when they are asked for: who wants `wire` alone gets nothing else.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .python import *  # noqa: F403
else:

    def __getattr__(name: str) -> object:
        if not name[:1].isupper():  # a module, or none of ours
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import python

        return getattr(python, name)
