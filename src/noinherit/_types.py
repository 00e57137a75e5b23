"""Names for annotations, each loaded when an annotation that contains it is evaluated.

So `typing.get_type_hints` works on every public function, although ``import noinherit`` loads
neither `typing` nor `socket`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import IO, Any, NoReturn

    from ._options import Args

    __all__ = ["IO", "Any", "Args", "NoReturn", "socket"]

else:
    _PLACES = {
        "IO": "typing",
        "Any": "typing",
        "Args": f"{__package__}._options",
        "NoReturn": "typing",
        "socket": "socket",
    }

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(__import__(_PLACES[name], fromlist=[name]), name)
