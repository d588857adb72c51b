"""``exchange_scope``: an exchange without a request, for commands and workers."""

from types import TracebackType

from ..exchange import Exchange, current_exchange
from ..runner import InlineDispatcher, get_runner
from ..runtime import check_stack


class exchange_scope:  # noqa: N801 -- used as a function, like contextlib.suppress
    """An exchange of its own, also inside another one.

    ``with exchange_scope():`` runs the callbacks registered inside before the
    block is left; ``async with`` awaits them. The end of the block decides
    the outcome: SENT, or FAILED with the block's exception as ``error``,
    which goes on afterwards.
    """

    def __init__(self) -> None:
        self._entered: list[tuple[Exchange, InlineDispatcher]] = []

    def __enter__(self) -> Exchange:
        check_stack()  # for its end
        dispatcher = InlineDispatcher(get_runner())
        exchange = Exchange(dispatcher, parent=current_exchange.get())
        self._entered.append((exchange, dispatcher))
        current_exchange.set(exchange)
        return exchange

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        dispatcher, exchange = self._end(error)
        try:
            dispatcher.run(exchange)
        except BaseException:
            dispatcher.finish(exchange)  # if it could not
            raise

    async def __aenter__(self) -> Exchange:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        dispatcher, exchange = self._end(error)
        try:
            await dispatcher.arun(exchange)
        except Exception:
            dispatcher.finish(exchange)  # if it could not
            raise

    def _end(self, error: BaseException | None) -> tuple[InlineDispatcher, Exchange]:
        entered = self._entered[self._which()]
        exchange, dispatcher = entered
        # Not the token: the block may be left in another copy of the context.
        current_exchange.set(exchange.parent)
        try:
            if error is None:
                exchange.complete()
            exchange.end(error)
        except Exception as raised:  # no stack, no memory
            exchange.end(raised)
            dispatcher.finish(exchange)
            raise
        finally:
            self._entered.remove(entered)
        return dispatcher, exchange

    def _which(self) -> int:
        """Which entry this exit belongs to: one object may be used by several tasks."""
        current = current_exchange.get()
        for number, (exchange, _) in enumerate(self._entered):
            if exchange is current:
                return number
        return -1
