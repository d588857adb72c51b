"""Finds the project's applications and its middleware, and imports nothing for it.

System checks run before a server imports ``asgi.py``, and importing it may do
anything: connect to something, or take seconds. So what is imported already is
looked at, and of the rest the source is read: a module that names a wrapper may
wrap, and so may one that imports, over however many steps, one that does.
"""

import sys
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from .middleware import AfterResponseMiddleware
from .sources import WRAPPER, WRAPPERS, is_installed, others_require_us, read, spec_of, text_of

MIDDLEWARE = "async_after.django.AfterResponseMiddleware"

# An asgi.py that imports half of the project (Channels' routing) is given up:
# reading costs some milliseconds each.
_MAX_SOURCES = 50

_NOT_READ = sys.stdlib_module_names | {"django", "asgiref", "async_after"}


# Where they are.


def middleware() -> list[str]:
    """``MIDDLEWARE``, as far as it is a list of dotted paths: what is not, Django refuses."""
    found: Any = getattr(settings, "MIDDLEWARE", None)
    if not isinstance(found, (list, tuple)):
        return []
    return [path for path in found if isinstance(path, str)]


def modules() -> list[str]:
    """Where an application may be: the modules of ``WSGI_APPLICATION`` and
    ``ASGI_APPLICATION``, and ``wsgi`` and ``asgi`` in the packages around these, the
    settings and the root URLconf, and at the top."""
    applications = [_module_of(path_in(f"{kind}_APPLICATION")) for kind in ("WSGI", "ASGI")]
    found = dict.fromkeys(applications)
    for name in (path_in("SETTINGS_MODULE"), path_in("ROOT_URLCONF"), *applications):
        for package in _packages(name):
            found |= {f"{package}wsgi": None, f"{package}asgi": None}
    return [name for name in found if _is_dotted(name)]


def path_in(setting: str) -> str:
    value = getattr(settings, setting, None)
    return value if isinstance(value, str) else ""


def _module_of(path: str) -> str:
    return path.rpartition(".")[0]


def _packages(name: str) -> Iterator[str]:
    """Of ``config.settings.dev``: ``config.settings.``, ``config.`` and nothing."""
    while name:
        name = _module_of(name)
        yield f"{name}." if name else ""


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


# What they are.


def unwrapped() -> list[str] | None:
    """The modules of applications, where surely none of them is wrapped. ``None``: one may be."""
    found = []
    for module in modules():
        if spec_of(module) is not None:
            if _may_be_wrapped(module):
                return None
            found.append(module)
    return found


def _may_be_wrapped(module: str) -> bool:
    if any(_wrapper_of(value) for value in _values(module).values()):
        return True
    own = module.partition(".")[0]
    not_read = _NOT_READ - {own}
    names, seen, count = [module], {module}, 0
    while names:
        spec = spec_of(names.pop())
        if spec is None:
            continue  # the name of something else than a module, or not installed
        if is_installed(spec) and spec.name.partition(".")[0] != own:
            if others_require_us():
                return True
            continue
        count += 1
        source = read(spec) if count <= _MAX_SOURCES else None
        if source is None or source.names_wrapper():
            return True
        new = {name for name in source.imports() - seen if name.partition(".")[0] not in not_read}
        names += new
        seen |= new
    return False


def wrapper_of(path: str) -> str | None:
    """``"async_after.asgi"`` or ``"async_after.wsgi"``, if the application at this
    dotted path surely is a wrapper from there."""
    module, _, name = path.rpartition(".")
    if not module or not _is_dotted(path):
        return None
    values = _values(module)
    if name in values:
        return _wrapper_of(values[name])
    spec = spec_of(module)
    source = None if spec is None else read(spec)
    return None if source is None else source.wrapper_of(name)


def is_middleware(path: str) -> bool | None:
    """Whether this item of ``MIDDLEWARE`` is ours, or inherits from it; ``None``: maybe."""
    if path == MIDDLEWARE:
        return True
    module, _, name = path.rpartition(".")
    if not module or not _is_dotted(path) or path.startswith("django."):
        return False
    found: Any = _values(module).get(name)
    if _is_class(found):
        return issubclass(found, AfterResponseMiddleware)
    spec = spec_of(module)
    if spec is None:
        return False
    text = text_of(spec)
    return None if text is None or WRAPPER in text else False


def classes_of(path: str) -> list[str]:
    """An item of ``MIDDLEWARE``, and what it inherits from, if it is imported."""
    module, _, name = path.rpartition(".")
    found: Any = _values(module).get(name)
    mro: tuple[type, ...] = found.__mro__ if _is_class(found) else ()
    return [path, *(f"{cls.__module__}.{cls.__qualname__}" for cls in mro)]


def _is_class(value: object) -> bool:
    # isinstance would let a lazy object load what it stands for; so in _wrapper_of.
    return issubclass(type(value), type)


def _wrapper_of(value: object) -> str | None:
    """The module whose wrapper it is."""
    for module in WRAPPERS:
        wrapper: Any = _values(module).get(WRAPPER)
        if wrapper is not None and issubclass(type(value), wrapper):
            return module
    return None


def _values(module: str) -> dict[str, Any]:
    """What an imported module holds. (``getattr`` could make it import more.)"""
    return dict(getattr(sys.modules.get(module), "__dict__", {}))
