"""What the testing tools have in common: blocks that are entered, or decorate a test."""

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from .._core.registration import Interceptor, test_hook
from .._core.runtime import check_stack

F = TypeVar("F", bound=Callable[..., Any])


class Block(Interceptor):
    """It is entered once at a time. Subclasses say how it begins, and how it ends."""

    def __init__(self) -> None:
        self._is_entered = False

    def _enter(self) -> None:
        if self._is_entered:
            raise RuntimeError(f"this {type(self).__name__}() is active already: make another one")
        check_stack()  # for its end
        self._is_entered = True
        test_hook.enter(self)

    def _end(self, error: BaseException | None) -> None:
        """Left by ``with``; ``error``: what the block has raised."""
        self._leave()

    async def _aend(self, error: BaseException | None) -> None:
        """Left by ``async with``."""
        self._end(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._aend(error)

    def _leave(self) -> None:
        test_hook.leave(self)
        self._is_entered = False

    def _copy(self) -> Any:
        """Another one with the same parameters, for one call of a decorated function."""
        return type(self)()

    def __call__(self, func: F) -> F:
        """Decorate a test function or method, plain or ``async def``."""
        if (
            isinstance(func, type)
            or inspect.isgeneratorfunction(func)
            or inspect.isasyncgenfunction(func)
        ):
            raise TypeError(
                f"{type(self).__name__}() decorates functions and coroutine functions, not"
                f" {func!r}: use it as a block there"
            )
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def await_inside(*args: Any, **kwargs: Any) -> Any:
                async with self._copy():
                    return await func(*args, **kwargs)

            return cast(F, await_inside)

        @functools.wraps(func)
        def call_inside(*args: Any, **kwargs: Any) -> Any:
            with self._copy():
                return func(*args, **kwargs)

        return cast(F, call_inside)


def raise_all(errors: list[BaseException]) -> None:
    """One as it is, several as an ``ExceptionGroup``."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} callbacks went wrong", errors)
