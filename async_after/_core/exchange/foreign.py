"""What apps and servers say, which may be anything: it is looked at by its type, and may refuse."""

import traceback
from typing import TypeVar

T = TypeVar("T")


def only(kind: type[T], value: T | None) -> T | None:
    """What an app or a server says may be anything."""
    return value if issubclass(type(value), kind) else None


def is_of_socket(error: BaseException) -> bool:
    """Whether it is an ``OSError``, or what the server has made of one.

    gunicorn's HTTP/2 raises its own ``HTTP2ConnectionError``. What the app was
    handling when it called the server is the context of an error too, but
    none of the frames that the error has passed has caught it.
    """
    if issubclass(type(error), OSError):  # isinstance() may ask it for its __class__
        return True
    try:
        origin = error.__context__
        if not isinstance(origin, OSError) or origin.__traceback__ is None:
            return False
        caught_in = origin.__traceback__.tb_frame
        return any(frame is caught_in for frame, _ in traceback.walk_tb(error.__traceback__))
    except Exception:  # it refuses to tell
        return False


def text_of(header: bytes | str) -> str:
    # Some servers take strings too (uvicorn with h11).
    return header if isinstance(header, str) else bytes(header).decode("latin-1")
