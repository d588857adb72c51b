"""Reads the source of a module, and imports nothing for it: neither the module
nor the packages that it is in."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import PurePath
from typing import Any

WRAPPER = "AfterResponseMiddleware"
"""The class of both wrappers, and of the Django middleware."""

WRAPPERS = ("async_after.asgi", "async_after.wsgi")


def spec_of(name: str) -> ModuleSpec | None:
    """As ``importlib.util.find_spec``, which imports the package that a module is in.

    One without a loader says that nobody can know.
    """
    if name in sys.modules:
        spec = getattr(sys.modules[name], "__spec__", None)
        return spec if isinstance(spec, ModuleSpec) else ModuleSpec(name, None)
    path = None
    package = name.rpartition(".")[0]
    if package:
        parent = spec_of(package)
        if parent is None or (parent.loader and parent.submodule_search_locations is None):
            return None
        path = parent.submodule_search_locations
        if path is None:
            return parent
    try:
        found = (finder.find_spec(name, path) for finder in sys.meta_path)
        return next((spec for spec in found if spec is not None), None)
    except Exception:
        # A namespace package whose parent is not imported, or anybody's finder.
        return ModuleSpec(name, None)


def text_of(spec: ModuleSpec) -> str | None:
    """``None``: there is no source (a compiled module), or it cannot be read."""
    loader: Any = spec.loader
    if loader is None and spec.submodule_search_locations is not None:
        return ""  # a package without __init__.py
    try:
        text = loader.get_source(spec.name)
    except Exception:  # anybody's loader
        return None
    return text if isinstance(text, str) else None


def read(spec: ModuleSpec) -> "Source | None":
    """``None``: there is no source, or it is none of this Python's."""
    text = text_of(spec)
    try:
        tree = None if text is None else ast.parse(text)
    except Exception:  # SyntaxError, RecursionError, ...
        return None
    is_package = spec.submodule_search_locations is not None
    package = spec.name if is_package else spec.name.rpartition(".")[0]
    return None if tree is None else Source(tree, package)


@dataclass(frozen=True, slots=True)
class Source:
    tree: ast.Module
    package: str
    """Where its relative imports begin."""

    def names_wrapper(self) -> bool:
        """Whether it names the wrapper, anywhere, in a string too (``import_string``)."""
        return any(WRAPPER in name for name in self._names())

    def imports(self) -> set[str]:
        """The modules that it imports, anywhere, and what else it imports."""
        names = {name for _, name in self._aliases()}
        return names | {name.rpartition(".")[0] for name in names} - {""}

    def wrapper_of(self, variable: str) -> str | None:
        """``"async_after.asgi"`` or ``"async_after.wsgi"``, if a call of the wrapper from
        there is surely what the variable is in the end."""
        for statement in reversed(self.tree.body):
            if variable not in _bound_in(statement):
                continue
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                head, dot, rest = ast.unparse(statement.value.func).partition(".")
                heads = {name for alias, name in self._aliases() if alias == head} or {head}
                called = {f"{name}{dot}{rest}" for name in heads}
                return next((name for name in WRAPPERS if called == {f"{name}.{WRAPPER}"}), None)
            return None
        return None

    def _names(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
        yield from (name for _, name in self._aliases())

    def _aliases(self) -> Iterator[tuple[str, str]]:
        """What is imported: the name here, and the dotted path."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.asname or alias.name, alias.name
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                for alias in node.names:
                    yield alias.asname or alias.name, f"{module}.{alias.name}"

    def _absolute(self, node: ast.ImportFrom) -> str:
        try:
            return resolve_name("." * node.level + (node.module or ""), self.package)
        except ImportError:  # beyond the top
            return node.module or ""


def _bound_in(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module may give a value."""
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


def is_installed(spec: ModuleSpec) -> bool:
    """Whether it is somebody's distribution, and not of the project."""
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    parts = {part for place in places if place for part in PurePath(place).parts}
    return not parts.isdisjoint({"site-packages", "dist-packages"})


_REQUIRES_US = re.compile(r"^requires-dist:\s*async[-_.]+after\b", re.IGNORECASE | re.MULTILINE)


@functools.cache
def others_require_us() -> bool:
    """Whether an installed distribution may wrap the applications of its users."""
    # Here: it takes 20 ms to import, and few projects need it.
    from importlib.metadata import distributions

    try:
        metadata = (found.read_text("METADATA") for found in distributions())
        return any(_REQUIRES_US.search(text) for text in metadata if text is not None)
    except Exception:  # anybody's distribution
        return True
