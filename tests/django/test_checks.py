"""System checks: which ids are found in which project, and that no application is imported."""

import re
import sys
from collections.abc import Callable, Iterator
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage, Tags, run_checks
from django.middleware.http import ConditionalGetMiddleware
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from async_after.django import AfterResponseMiddleware, checks

OURS = "async_after.django.AfterResponseMiddleware"
INNER = "async_after.django.middleware"
CONDITIONAL_GET = "django.middleware.http.ConditionalGetMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
REDIRECTS = "django.contrib.redirects.middleware.RedirectFallbackMiddleware"

ASGI = "from django.core.asgi import get_asgi_application\n"
WSGI = "from django.core.wsgi import get_wsgi_application\n"
PLAIN_ASGI = f"{ASGI}application = get_asgi_application()\n"
PLAIN_WSGI = f"{WSGI}application = get_wsgi_application()\n"
WRAPPED_ASGI = (
    f"{ASGI}from async_after.asgi import AfterResponseMiddleware\n"
    "application = AfterResponseMiddleware(get_asgi_application())\n"
)
APP = "application = "
CALL = "AfterResponseMiddleware(1)\n"
WRAPPED_WSGI = WRAPPED_ASGI.replace("asgi", "wsgi")

Files = dict[str, str]
Project = Callable[[Files], str]


class SubclassOfOurs(AfterResponseMiddleware):
    pass


def ours_in_a_function(get_response: Any) -> Any:
    return SubclassOfOurs(get_response)


class NotOurs:
    pass


class SubclassOfConditionalGet(ConditionalGetMiddleware):
    pass


def messages(**options: Any) -> list[CheckMessage]:
    return run_checks(tags=["async_after"], **options)


def ids(**options: Any) -> list[str]:
    found = messages(**options)
    assert all(message.hint for message in found)
    return sorted(str(message.id).removeprefix("async_after.") for message in found)


_numbers = count()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Makes a project that nobody has imported, and that nobody may import."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    names: list[str] = []

    def make(files: Files) -> str:
        name = f"project{next(_numbers)}"
        names.append(name)
        for path, source in {"__init__": "", **files}.items():
            file = tmp_path / name / f"{path}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{source}raise SystemExit\n")
        return name

    yield make
    imported = {name for name in set(sys.modules) - before if name.partition(".")[0] in names}
    assert not imported


def ids_of(name: str, **more: Any) -> list[str]:
    with override_settings(**{"ROOT_URLCONF": f"{name}.urls", "MIDDLEWARE": [], **more}):
        return ids()


# What there is.


def test_the_ids_are_unique_and_stay() -> None:
    source = Path(checks.__file__).read_text()
    assert sorted(re.findall(r'\bid="async_after\.(\w+)"', source)) == [
        *("E001", "E002", "E003"),
        *("W001", "W002", "W003", "W004", "W005"),
    ]


def test_they_have_a_tag_of_their_own() -> None:
    with override_settings(ASYNC_AFTER={"LIMIT": 0}):
        assert ids() == ["E001"]
        assert not run_checks(tags=[Tags.security, Tags.urls])


def test_this_project_is_in_order() -> None:
    assert ids(include_deployment_checks=True) == []


# W001: nothing opens an exchange.

SURELY_PLAIN: dict[str, Files] = {
    "asgi.py": {"asgi": PLAIN_ASGI},
    "both": {"asgi": PLAIN_ASGI, "wsgi": PLAIN_WSGI},
    "commented out": {"asgi": f"{PLAIN_ASGI}# AfterResponseMiddleware(application)\n"},
    "others": {"asgi": f"import httpx, psycopg, is_not_installed\n{PLAIN_ASGI}"},
    "no __init__.py": {"asgi": f"import beside.app\n{PLAIN_ASGI}", "../beside/app": ""},
    "beyond the top": {"asgi": f"from ..... import x\n{PLAIN_ASGI}"},
    "circle": {"asgi": f"from . import a\n{PLAIN_ASGI}", "a": "from . import asgi, a\n"},
}  # fmt: skip


@pytest.mark.parametrize("files", SURELY_PLAIN.values(), ids=SURELY_PLAIN)
def test_neither_wrapper_nor_middleware(files: Files, project: Project) -> None:
    assert ids_of(project(files)) == ["W001"]


PERHAPS_WRAPPED: dict[str, Files] = {
    "asgi.py": {"asgi": WRAPPED_ASGI, "wsgi": PLAIN_WSGI},
    "wsgi.py": {"asgi": PLAIN_ASGI, "wsgi": WRAPPED_WSGI},
    "by module": {"asgi": f"{ASGI}import async_after.asgi as a\nx = a.{CALL}"},
    "by name": {"asgi": "import_string('async_after.asgi.AfterResponseMiddleware')\n"},
    "conditionally": {"asgi": f"{PLAIN_ASGI}if x:\n    {WRAPPED_ASGI.splitlines()[1]}\n"},
    "elsewhere": {"asgi": "from .server import application\n", "server": WRAPPED_ASGI},
    "two steps": {"asgi": "from .a import app\n", "a": "from .b.c import *\n", "b/c": WRAPPED_ASGI},
    "packages that only an import finds": {"asgi": "from .a.b.c import app\n", "a/b/c": PLAIN_ASGI},
    "absolute": {"asgi": "import project_beside\n", "../project_beside": WRAPPED_ASGI},
    "package": {"asgi/__init__": "from . import app\n", "asgi/app": WRAPPED_ASGI},
    "imports": {"asgi": "from .server import app\n", "server": PLAIN_ASGI},
    "it uses after_response": {"asgi": f"{PLAIN_ASGI}from async_after import after_response\n"},
    "does not parse": {"asgi": "application = (\n"},
    "too many imports": {
        "asgi": "".join(f"from . import a{n}\n" for n in range(60)),
        **{f"a{n}": "" for n in range(60)},
    },
    "no application at all": {"urls": ""},
}  # fmt: skip


@pytest.mark.parametrize("files", PERHAPS_WRAPPED.values(), ids=PERHAPS_WRAPPED)
def test_what_may_be_wrapped_is_left_in_peace(files: Files, project: Project) -> None:
    assert ids_of(project(files)) == []


def test_an_application_without_source(project: Project, tmp_path: Path) -> None:
    import py_compile

    name = project({"asgi": PLAIN_ASGI})
    source = tmp_path / name / "asgi.py"
    py_compile.compile(str(source), str(source.with_suffix(".pyc")))
    source.unlink()
    assert ids_of(name) == []


def test_an_imported_application_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has wrapped it: its source does not say."""
    from async_after.asgi import AfterResponseMiddleware as ASGIMiddleware

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    module: Any = ModuleType("tests.django.asgi")
    module.__spec__ = ModuleSpec("tests.django.asgi", SourceText(PLAIN_ASGI))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.application = app
    assert ids_of("tests.django") == ["W001"]
    module.application = ASGIMiddleware(app)
    assert ids_of("tests.django") == []


class SourceText(Loader):
    def __init__(self, text: str | None) -> None:
        self.text = text

    def get_source(self, name: str) -> str | None:
        return self.text


def test_the_middleware_opens_one(project: Project) -> None:
    name = project({"asgi": PLAIN_ASGI, "own": f"from {INNER} import AfterResponseMiddleware\n"})
    for path in (OURS, f"{INNER}.AfterResponseMiddleware", f"{__name__}.SubclassOfOurs"):
        assert ids_of(name, MIDDLEWARE=(path,)) == []
        assert ids_of(name, MIDDLEWARE=[GZIP, path]) == ["W002"]
    for path in (f"{name}.own.Own", f"{__name__}.ours_in_a_function"):  # it may be
        assert ids_of(name, MIDDLEWARE=[GZIP, path]) == []
    for path in (f"{name}.asgi.Other", f"{name}.nowhere.Other", f"{__name__}.NotOurs"):
        assert ids_of(name, MIDDLEWARE=[GZIP, path]) == ["W001"]


def test_both_together_are_fine(project: Project) -> None:
    name = project({"asgi": WRAPPED_ASGI, "wsgi": WRAPPED_WSGI})
    assert ids_of(name, MIDDLEWARE=[OURS]) == []
    assert ids_of(name, MIDDLEWARE=[GZIP, CONDITIONAL_GET, OURS, OURS]) == []


def test_applications_anywhere(project: Project) -> None:
    name = project(
        {
            "asgi": PLAIN_ASGI,
            "deploy/__init__": "",
            "deploy/a/server": WRAPPED_ASGI,
            "deploy/plain": PLAIN_WSGI,
        }
    )
    wrapped, plain = f"{name}.deploy.a.server.application", f"{name}.deploy.plain.application"
    assert ids_of(name, ASGI_APPLICATION=wrapped, WSGI_APPLICATION=plain) == []
    assert ids_of(name, ASGI_APPLICATION=None, WSGI_APPLICATION=plain) == ["W001"]
    other = project({"asgi": PLAIN_ASGI, "settings/__init__": "", "settings/dev": ""})
    with override_settings(
        ROOT_URLCONF=None, SETTINGS_MODULE=f"{other}.settings.dev", MIDDLEWARE=[]
    ):
        [message] = messages()
    assert f"no application is wrapped in {other}.asgi." in message.msg
    assert f"first in MIDDLEWARE in {other}.settings.dev." in str(message.hint)


# W002: the middleware is alone, and not outermost.

DEFAULTS = [
    f"django.{name}"
    for name in (
        "middleware.security.SecurityMiddleware",
        "contrib.sessions.middleware.SessionMiddleware",
        "middleware.locale.LocaleMiddleware",
        "middleware.common.CommonMiddleware",
        "middleware.csrf.CsrfViewMiddleware",
        "contrib.auth.middleware.AuthenticationMiddleware",
        "contrib.messages.middleware.MessageMiddleware",
        "middleware.clickjacking.XFrameOptionsMiddleware",
    )
]
UPDATE_CACHE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH_FROM_CACHE = "django.middleware.cache.FetchFromCacheMiddleware"


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        ([OURS, *DEFAULTS, CONDITIONAL_GET, GZIP], []),
        ([*DEFAULTS, OURS], []),
        ([UPDATE_CACHE, *DEFAULTS, OURS, FETCH_FROM_CACHE], []),
        ([*DEFAULTS, CONDITIONAL_GET, OURS], [CONDITIONAL_GET]),
        ([GZIP, CONDITIONAL_GET, OURS, REDIRECTS], [GZIP, CONDITIONAL_GET]),
        ([REDIRECTS, OURS], [REDIRECTS]),
        ([f"{__name__}.SubclassOfConditionalGet", OURS], [f"{__name__}.SubclassOfConditionalGet"]),
        ([OURS, CONDITIONAL_GET, OURS], []),
        ([CONDITIONAL_GET, OURS, OURS], [CONDITIONAL_GET]),
        ([f"{__name__}.SubclassOfOurs", CONDITIONAL_GET, OURS], []),
    ],
)
def test_harmful_middleware_outside(middleware: list[str], expected: list[str]) -> None:
    with override_settings(MIDDLEWARE=middleware):
        found = messages()
    assert [message.id for message in found] == ["async_after.W002"] * len(expected)
    assert [message.msg.partition(" ")[0] for message in found] == expected
    assert all(f'Put "{OURS}" first in MIDDLEWARE' in str(message.hint) for message in found)


# E001, E002 and E003.


def test_wrong_settings() -> None:
    with override_settings(ASYNC_AFTER={"LIMIT": 0, "LANES": 1}):
        found = messages()
    assert [message.id for message in found] == ["async_after.E001"] * 2
    assert "ASYNC_AFTER" in str(found[0].hint)


@pytest.mark.parametrize(
    ("setting", "source", "expected"),
    [
        ("WSGI_APPLICATION", WRAPPED_ASGI.replace("get_asgi", "get_wsgi"), ["E002"]),
        ("ASGI_APPLICATION", WRAPPED_WSGI.replace("get_wsgi", "get_asgi"), ["E002"]),
        ("WSGI_APPLICATION", WRAPPED_WSGI.replace("after.wsgi", "after.django"), ["E003"]),
        ("ASGI_APPLICATION", WRAPPED_ASGI.replace("after.asgi", "after.django"), ["E003"]),
        ("WSGI_APPLICATION", WRAPPED_WSGI, []),
        ("ASGI_APPLICATION", WRAPPED_ASGI, []),
        # Not sure enough:
        ("WSGI_APPLICATION", WRAPPED_ASGI, []),
        ("ASGI_APPLICATION", WRAPPED_WSGI, []),
        ("ASGI_APPLICATION", f"import async_after.wsgi\n{APP}async_after.wsgi.{CALL}", []),
        ("WSGI_APPLICATION", f"from async_after import asgi as a\n{APP}a.{CALL}", []),
        ("WSGI_APPLICATION", WRAPPED_WSGI.replace('wsgi.A', 'django.A') + WRAPPED_ASGI, []),
        ("WSGI_APPLICATION", f"{WRAPPED_ASGI}application = to_wsgi(application)\n", []),
        ("WSGI_APPLICATION", f"{WRAPPED_ASGI}if x:\n    application = 1\n", []),
        ("WSGI_APPLICATION", f"{WRAPPED_ASGI}def application(environ, start_response): ...\n", []),
        ("WSGI_APPLICATION", f"{WRAPPED_ASGI}from .other import application\n", []),
        ("WSGI_APPLICATION", f"{WRAPPED_ASGI}from .other import AfterResponseMiddleware\n", []),
        ("WSGI_APPLICATION", WRAPPED_ASGI.replace(APP, "other = "), []),
    ],
)  # fmt: skip
def test_an_application_in_the_wrong_class(
    setting: str, source: str, expected: list[str], project: Project
) -> None:
    name = project({"server": source})
    assert ids_of(name, **{setting: f"{name}.server.application"}) == expected
    file = setting.partition("_")[0].lower()
    assert ids_of(project({file: source})) == expected  # beside the root URLconf


def test_an_imported_application_in_the_wrong_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from async_after.asgi import AfterResponseMiddleware as ASGIMiddleware
    from async_after.wsgi import AfterResponseMiddleware as WSGIMiddleware

    def app(*arguments: Any) -> Any: ...

    this = f"{__name__}.application"
    for wrapper, wsgi, asgi in (
        (ASGIMiddleware, ["E002"], []),
        (WSGIMiddleware, [], ["E002"]),
        (SubclassOfOurs, ["E003"], ["E003"]),
    ):
        monkeypatch.setattr(sys.modules[__name__], "application", wrapper(app), raising=False)
        with override_settings(WSGI_APPLICATION=this):
            assert ids() == wsgi
        with override_settings(ASGI_APPLICATION=this):
            assert ids() == asgi


# W003 and W004.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, []),
        ({"WAIT_TIMEOUT": 24.9}, []),
        ({"WAIT_TIMEOUT": 25}, ["W003"]),
        ({"WAIT_TIMEOUT": 0, "CLOSE_TIMEOUT": 90}, ["W003"]),
        ({"WAIT_TIMEOUT": "90"}, ["E001"]),
    ],
)
def test_a_shutdown_that_takes_too_long(value: Any, expected: list[str]) -> None:
    with override_settings(ASYNC_AFTER=value):
        assert ids(include_deployment_checks=True) == expected
        assert "W003" not in ids()


@pytest.mark.parametrize(
    ("uwsgi", "lane", "expected"),
    [
        (SimpleNamespace(opt={"http-socket": b":0"}), "threads", ["W004"]),
        (SimpleNamespace(opt={"http-socket": b":0"}), "inline", []),
        (SimpleNamespace(opt={"enable-threads": True}), "threads", []),
        (SimpleNamespace(opt={"threads": b"4"}), "threads", []),
        (SimpleNamespace(), "threads", []),  # a module of that name
    ],
)
def test_uwsgi_without_threads(
    uwsgi: Any, lane: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in; the real one is in ``test_checks_command``."""
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    with override_settings(ASYNC_AFTER={"WSGI_LANE": lane}):
        assert ids() == expected


# None raises.

NONSENSE: list[Any] = [
    None, 3, "", ".", "a..b", ".a", "a.", "\0.a", "no.such.module", "os.path.join", "ä.b", object(),
    [None, 3, "", ".", "a..b", "\0.a", "os", "os.path.join", "no.such.Middleware", object()],
    ["", ".", "a..b", "\0.a", "os", "os.path.join", "no.such.Middleware", OURS, "sys.exit", ".x"],
    [], {}, {1}, type,
]  # fmt: skip


@pytest.mark.parametrize(
    "setting",
    ["MIDDLEWARE", "WSGI_APPLICATION", "ASGI_APPLICATION", "ROOT_URLCONF", "ASYNC_AFTER"],
)
@pytest.mark.parametrize("is_alone", [True, False])
def test_none_raises(setting: str, is_alone: bool) -> None:
    more = {} if is_alone else {"MIDDLEWARE": [], "WSGI_APPLICATION": "os.path.join"}
    for value in NONSENSE:
        with override_settings(**{**more, setting: value}):
            ids(include_deployment_checks=True)
    with override_settings(**{**more, setting: None}):
        delattr(settings, setting)
        ids(include_deployment_checks=True)


def test_what_cannot_be_looked_at(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            raise LookupError(name)

    name = "tests.django.asgi"
    module: Any = ModuleType(name)  # it has no spec
    for found in (None, SimpleNamespace(), module):
        monkeypatch.setitem(sys.modules, name, found)
        assert ids_of("tests.django") == []
    for loader in (SourceText("\0"), SourceText("(" * 10_000), SourceText(None), Loader()):
        module.__spec__ = ModuleSpec(name, loader)
        assert ids_of("tests.django") == []
    plain = project({"asgi": PLAIN_ASGI})
    assert ids_of(plain) == ["W001"]
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert ids_of(plain) == []


def test_lazy_objects_stay_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise AssertionError("a check has loaded it")

    module: Any = sys.modules[__name__]
    monkeypatch.setattr(module, "application", SimpleLazyObject(load), raising=False)
    paths = {
        "WSGI_APPLICATION": f"{__name__}.application",
        "MIDDLEWARE": [f"{__name__}.application"],
    }
    with override_settings(**paths):
        assert ids() == []  # the source of this file names the wrapper
