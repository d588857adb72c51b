"""``AfterResponseTestMixin``, in test cases that are run by unittest."""

import pickle
import unittest
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import path

from async_after import CallbackState, after_response, exchange_scope
from async_after._core.registration import test_hook
from async_after.testing import AfterResponseTestMixin, raise_callback_errors

ran: list[int] = []


def fail() -> None:
    raise ValueError("the callback's")


async def afail() -> None:
    fail()


def view(request: HttpRequest) -> HttpResponse:
    after_response(fail if "fail" in request.GET else lambda: ran.append(1))
    return HttpResponse("done")


urlpatterns = [path("", view)]


@override_settings(ROOT_URLCONF=__name__)
class Methods(AfterResponseTestMixin, TestCase):
    def setUp(self) -> None:
        ran.clear()

    def test_capture_after_response(self) -> None:
        with self.captureAfterResponse() as captured:
            self.client.get("/")
        assert len(captured) == 1
        assert captured[0].callback.state is CallbackState.SKIPPED
        with self.captureAfterResponse(execute=True):
            self.client.get("/")
            assert ran == []
        assert ran == [1]
        assert connection.in_atomic_block

    async def test_capture_after_response_async(self) -> None:
        async with self.captureAfterResponse(execute=True):
            await self.async_client.get("/")
        assert ran == [1]

    def test_suppress_after_response(self) -> None:
        with self.suppressAfterResponse():
            self.client.get("/?fail")
            self.client.get("/")
        assert ran == []

    def test_raise_callback_errors(self) -> None:
        self.client.get("/?fail")
        with self.assertRaisesMessage(ValueError, "the callback's"), self.raiseCallbackErrors():
            self.client.get("/?fail")


class _Raising(AfterResponseTestMixin):
    raise_callback_errors = True

    def test_good(self) -> None:
        with exchange_scope():
            after_response(int)

    def test_bad(self) -> None:
        with exchange_scope():
            after_response(fail)

    async def test_bad_coroutine(self) -> None:
        async with exchange_scope():
            after_response(afail)

    def test_expected(self) -> None:
        with (
            pytest.raises(ValueError, match="callback's"),
            self.raiseCallbackErrors(),
            exchange_scope(),
        ):
            after_response(fail)

    @unittest.skip("a reason")
    def test_skipped(self) -> None:
        raise AssertionError("not skipped")

    @unittest.expectedFailure
    def test_failure_is_expected(self) -> None:
        with exchange_scope():
            after_response(fail)

    def test_pickled(self) -> None:
        """As the test of a subtest is in a parallel run."""
        if isinstance(self, SimpleTestCase):
            assert pickle.loads(pickle.dumps(self)).id() == self.id()


class RaisingSimpleTestCase(_Raising, SimpleTestCase):
    pass


class RaisingTestCase(_Raising, TestCase):
    pass


class RaisingTransactionTestCase(_Raising, TransactionTestCase):
    pass


class RaisingIsolatedAsyncioTestCase(_Raising, unittest.IsolatedAsyncioTestCase):
    pass


CASES: list[Any] = [case for name, case in globals().items() if name.startswith("Raising")]
for case in CASES:
    case.__test__ = False  # not for pytest: some are to fail


@pytest.mark.parametrize("case", CASES)
def test_the_attribute_makes_tests_fail(case: type[unittest.TestCase]) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    errors = {test.id().rpartition(".")[2]: text for test, text in result.errors}
    assert errors.keys() == {"test_bad", "test_bad_coroutine"}
    assert all("ValueError: the callback's" in text for text in errors.values())
    assert result.failures == []
    # Python 3.12.1 does not count those that are skipped.
    assert result.testsRun in (6, 7)
    assert [test.id().rpartition(".")[2] for test, _ in result.skipped] == ["test_skipped"]
    assert len(result.expectedFailures) == 1
    assert test_hook.interceptors == ()


def test_debug_raises_too() -> None:
    with pytest.raises(ValueError, match="the callback's"):
        RaisingSimpleTestCase("test_bad").debug()
    RaisingSimpleTestCase("test_good").debug()


def test_what_another_runner_has_put_in_the_place_of_the_method_stays() -> None:
    """pytest does so, and takes it away itself."""
    case: Any = RaisingSimpleTestCase("test_bad")
    method = case.test_bad
    case.test_bad = method
    case(unittest.TestResult())
    assert vars(case)["test_bad"] is method


def test_without_the_attribute_nothing_is_changed() -> None:
    case: Any = type("Quiet", (_Raising, SimpleTestCase), {"raise_callback_errors": False})
    result = unittest.TestResult()
    case("test_bad")(result)
    assert result.wasSuccessful()
    with pytest.raises(ValueError, match="the callback's"), raise_callback_errors():
        case("test_bad")(result)
