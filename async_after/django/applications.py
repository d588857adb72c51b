"""What the system checks know of a project: its applications, and its middleware.

Servers import ``asgi.py`` after the checks, and that may do anything: connect to
something, or take seconds. So an application that is not imported is not
imported here either; the text of its module says whether it names us. What
hides behind further imports nobody knows.
"""

import re
import sys
from collections.abc import Iterator
from inspect import getattr_static
from itertools import accumulate
from types import FunctionType
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from ..asgi import AfterResponseMiddleware as AsgiWrapper
from ..wsgi import AfterResponseMiddleware as WsgiWrapper
from .middleware import AfterResponseMiddleware

MIDDLEWARE = "async_after.django.AfterResponseMiddleware"

_CLASSES = {
    "async_after.asgi": AsgiWrapper,
    "async_after.wsgi": WsgiWrapper,
    "async_after.django": AfterResponseMiddleware,
}
_MAKES_ONE = re.compile(r"\bget_[aw]sgi_application\b")
# An application wrapped as the README says. Written in other ways it is not certain what a name is.
_IMPORTS = re.compile(
    rf"^from ({'|'.join(_CLASSES)}) import AfterResponseMiddleware\b(?! as)", re.MULTILINE
)
_WRAPS = re.compile(r"^\w+ = AfterResponseMiddleware\(\s*get_([aw]sgi)_application\(", re.MULTILINE)


def path_in(setting: str) -> str:
    value = getattr(settings, setting, None)
    return value if isinstance(value, str) else ""


def module_of(path: str) -> str:
    return path.rpartition(".")[0]


# Applications.


def unwrapped() -> list[str] | None:
    """The modules of applications, where surely none of them is wrapped. ``None``: one may be.

    One may be where the text names us, cannot be had, or takes the application
    from elsewhere.
    """
    found = _texts()
    for module, text in found.items():
        if text is None or "async_after" in text or not _MAKES_ONE.search(text):
            return None
        if any(_class_of(type(value)) for value in _values(module).values()):
            return None
    return list(found)


def wrapped() -> Iterator[tuple[str, str, str]]:
    """Applications that surely are in a class of ours: the module, ``"asgi"`` or
    ``"wsgi"``, and where the class is from."""
    for protocol in ("wsgi", "asgi"):
        module, _, name = path_in(f"{protocol.upper()}_APPLICATION").rpartition(".")
        wrapper = _class_of(type(_values(module).get(name)))
        if wrapper is not None:
            yield module, protocol, wrapper
    for module, text in _texts().items():
        if text and module not in sys.modules:
            wrappers, protocols = set(_IMPORTS.findall(text)), set(_WRAPS.findall(text))
            if len(wrappers) == len(protocols) == 1:
                yield module, protocols.pop(), wrappers.pop()


def has_asgi() -> bool:
    named = module_of(path_in("ASGI_APPLICATION"))
    return any(module == named or f".{module}".endswith(".asgi") for module in _texts())


def _texts() -> dict[str, str | None]:
    """The modules where an application may be, and their texts: those of ``WSGI_APPLICATION``
    and ``ASGI_APPLICATION``, and (``startproject`` sets the first only) what is called ``wsgi``
    or ``asgi`` in the packages around these, the settings and the root URLconf."""
    named = [module_of(path_in(f"{kind}_APPLICATION")) for kind in ("WSGI", "ASGI")]
    modules = dict.fromkeys(named)
    for name in (path_in("SETTINGS_MODULE"), path_in("ROOT_URLCONF"), *named):
        while name:
            name = module_of(name)
            modules |= {f"{name}.wsgi".lstrip("."): None, f"{name}.asgi".lstrip("."): None}
    dotted = (name for name in modules if all(part.isidentifier() for part in name.split(".")))
    texts = {name: _text_of(name) for name in dotted}
    return {name: text for name, text in texts.items() if text != "" or name in named}


def _text_of(module: str) -> str | None:
    """Its source; ``""`` if there is none of that name, ``None`` if it cannot be had.

    Found as an import finds it. (``importlib.util.find_spec`` imports the packages around it.)
    """
    path: list[str] | None = None
    try:
        for name in accumulate(module.split("."), "{}.{}".format):
            spec: Any
            if name in sys.modules:
                spec = sys.modules[name].__spec__
            else:
                specs = (finder.find_spec(name, path) for finder in sys.meta_path)
                spec = next(filter(None, specs), None)
                if spec is None:
                    return ""
            path = spec.submodule_search_locations or []
        # A package without __init__.py has no loader.
        text = spec.loader.get_source(spec.name) if spec.loader else ""
    except Exception:  # anybody's finder and loader, and what is in sys.modules
        return None
    return text if isinstance(text, str) else None


# Middleware.


def middleware() -> list[str]:
    """``MIDDLEWARE``, as far as it is a list of dotted paths: what is not, Django refuses."""
    found: Any = getattr(settings, "MIDDLEWARE", None)
    if not isinstance(found, (list, tuple)):
        return []
    return [path for path in found if isinstance(path, str)]


def around_ours() -> tuple[list[str], str, list[str]]:
    """What stands before our middleware, it itself, and what stands after it.

    Nothing where a wrapper may be outside.
    """
    paths = middleware()
    if unwrapped() is not None:
        for index, path in enumerate(paths):
            if is_middleware(path):
                return paths[:index], path, paths[index + 1 :]
    return [], "", []


def is_middleware(path: str) -> bool | None:
    """Whether this item of ``MIDDLEWARE`` is ours, or inherits from it; ``None``: maybe."""
    if path == MIDDLEWARE:
        return True
    found = _load(path)
    if isinstance(found, type):
        # A wrapper there is an error, and told as that.
        return None if is_misplaced(path) else _class_of(found) == "async_after.django"
    # A function may make one of ours, and so may what cannot be imported now.
    text = _text_of(module_of(path))
    return None if text is None or "async_after" in text else False


def is_misplaced(path: str) -> bool:
    """Whether this item of ``MIDDLEWARE`` is for applications."""
    return path.startswith(("async_after.asgi.", "async_after.wsgi."))


def is_sync_only(path: str) -> bool:
    """Whether Django calls it without ``await``: the rule of ``BaseHandler.load_middleware``."""
    found = _load(path)
    return found is not None and not getattr_static(found, "async_capable", False)


def names_of(path: str) -> list[str]:
    """An item of ``MIDDLEWARE``, and what it inherits from."""
    found = _load(path)
    mro = found.__mro__ if isinstance(found, type) else ()
    return [path, *(f"{cls.__module__}.{cls.__qualname__}" for cls in mro)]


def _load(path: str) -> type | FunctionType | None:
    """Imports it, as Django's admin does in its checks, and each server in the end.

    Whether it is imported already depends on the order in which Django happens to run
    the checks. ``None`` for anything but a class or a function: it may be a proxy, which
    loads something when it is looked at.
    """
    try:
        found: Any = import_string(path)
    except (Exception, SystemExit):  # Django tells when it serves
        return None
    return found if issubclass(type(found), (type, FunctionType)) else None


def _class_of(found: type) -> str | None:
    """Where it is from, if it is one of our three classes, or inherits from one."""
    return next((name for name, ours in _CLASSES.items() if issubclass(found, ours)), None)


def _values(module: str) -> dict[str, Any]:
    """What an imported module holds. (``getattr`` could make it import more.)"""
    return dict(getattr(sys.modules.get(module), "__dict__", {}))
