"""The layout of the package: what packages export, how long modules are, public names."""

import ast
import importlib
import pickle
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

import pytest

import async_after
from async_after import Completion, Delivery, Outcome

PACKAGE = Path(async_after.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]
FACES = [name for name in PACKAGES if name not in ("async_after", "async_after._core")]
FOR_DJANGO = {"async_after.wsgi": {"Ending", "WsgiExchange", "lane_of"}}
"""What a public face shows its neighbour, and is no public name."""


def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def package_of(name: str) -> str:
    """That in which a module stands; ``_core``'s own modules are faces of their own."""
    return name if name in PACKAGES else name.rpartition(".")[0]


def imports_of(name: str) -> Iterator[tuple[str, list[str]]]:
    """From where a module of ours imports what, in a function or for types too."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package_of(name).split(".")
            base = base[: len(base) - node.level + 1]
            yield ".".join([*base, *filter(None, [node.module])]), [a.name for a in node.names]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_is_small_and_says_what_it_owns(name: str) -> None:
    text = MODULES[name].read_text()
    assert ast.get_docstring(tree_of(name)), "begin with what this module owns"
    assert len(text.splitlines()) <= 300
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 50, node.name


@pytest.mark.parametrize(
    "path",
    [path for folder in ("bench", "asgi_demo") for path in (ROOT / folder).rglob("*.py")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_bench_and_demo_import_of_ours_is_there(path: Path) -> None:
    """Some of it runs in processes of a long benchmark only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("async_after"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or f"{node.module}.{alias.name}" in MODULES


@pytest.mark.parametrize("name", FACES)
def test_a_package_has_a_face(name: str) -> None:
    """A literal ``__all__`` of 5 to 20 names, all of which are there."""
    [names] = [
        ast.literal_eval(node.value)
        for node in tree_of(name).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert 5 <= len(names) <= 20
    assert names == sorted(names, key=lambda n: (not n.isupper(), n.islower() or "_" in n, n))
    module = importlib.import_module(name)
    assert [n for n in names if not hasattr(module, n)] == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_across_packages_the_package_is_imported(name: str) -> None:
    """And inside one the sibling module."""
    here = package_of(name)
    for source, names in imports_of(name):
        if source == here or source.startswith(f"{here}."):
            continue  # a sibling
        if source in ("async_after", "async_after._core"):
            # A package without a face of its own: what is imported are its parts.
            assert all(f"{source}.{n}" in MODULES for n in names), (source, names)
            continue
        assert source in FACES or package_of(source) == "async_after._core", source
        if source in FACES:
            shown = {*importlib.import_module(source).__all__, *FOR_DJANGO.get(source, ())}
            assert set(names) <= shown, source


def test_every_module_can_be_imported_first() -> None:
    """There is no circle: see the contracts, too. (Here: each is importable at all.)"""
    found = {m.name for m in pkgutil.walk_packages(async_after.__path__, "async_after.")}
    assert found == set(MODULES) - {"async_after"}


PICKLED = [
    cls
    for cls in (getattr(async_after, name) for name in async_after.__all__)
    if isinstance(cls, type) and (issubclass(cls, Enum | BaseException) or cls is Outcome)
]


@pytest.mark.parametrize("cls", PICKLED, ids=lambda cls: cls.__name__)
def test_what_is_pickled_says_its_public_address(cls: type) -> None:
    """So that pickles survive any later move."""
    assert cls.__module__ == "async_after"
    assert pickle.loads(pickle.dumps(cls)) is cls


def test_all_that_is_pickled_is_known() -> None:
    assert len(PICKLED) == 7


def test_a_pickled_outcome_names_no_module_of_the_core() -> None:
    outcome = Outcome(
        completion=Completion.SENT,
        status=200,
        headers=(("a", "b"),),
        body_bytes=2,
        error=None,
        method="GET",
        path="/",
        started_at=datetime.now(UTC),
        time_to_first_byte=0.1,
        duration=0.2,
        delivery=Delivery.FLUSHED,
    )
    pickled = pickle.dumps(outcome, protocol=0)
    assert b"casync_after\nOutcome\n" in pickled
    assert b"_core" not in pickled
    assert pickle.loads(pickled) == outcome
