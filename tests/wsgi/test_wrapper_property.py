"""Any interleaving of requests in one server thread keeps each request's own things apart."""

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from async_after import Completion, Outcome, after_response
from async_after._core.exchange import KEY, current_exchange
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import Call, Environ, StartResponse, drain, environ_for, new_runner

Plan = tuple[Any, bool, int | None, bool]

plans = st.lists(
    st.tuples(
        st.sampled_from(["threads", "inline"]),
        st.booleans(),  # a generator from its first step on
        st.none() | st.integers(0, 3),  # raises in this step
        st.booleans(),  # close() raises
    ),
    min_size=1,
    max_size=4,
)


class Body:
    def __init__(self, steps: Iterator[bytes], on_close: Any) -> None:
        self._steps = steps
        self.close = on_close

    def __iter__(self) -> Iterator[bytes]:
        return self._steps


@settings(max_examples=80, deadline=None)
@given(plans=plans, order=st.lists(st.integers(0, 3), max_size=16))
def test_any_interleaving(plans: list[Plan], order: list[int]) -> None:
    """Each request registers in its view, in each step and in ``close()``."""
    ran: dict[str, list[str]] = {}
    expected: dict[str, list[str]] = {}
    outcomes: dict[str, Outcome] = {}

    def made(plan: Plan, path: str) -> Any:
        _, is_generator, raises, close_raises = plan

        def register(name: str) -> None:
            after_response(ran[path].append, name)
            expected[path].append(name)

        def steps(environ: Environ) -> Iterator[bytes]:
            for number in range(3):
                assert current_exchange.get() is environ[KEY]
                register(f"step {number}")
                if number == raises:
                    raise LookupError
                yield b"x"

        def close() -> None:
            register("close")
            if close_raises:
                raise ValueError

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            register("view")
            start_response("200 OK", [])
            return Body(steps(environ), close)

        def generator(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield from steps(environ)

        return generator if is_generator else app

    with new_runner() as runner:
        calls: list[Call] = []
        for number, plan in enumerate(plans):
            path = f"/{number}"
            ran[path], expected[path] = [], []

            def note(outcome: Outcome, path: str = path) -> None:
                assert path not in outcomes
                outcomes[path] = outcome

            app = AfterResponseMiddleware(
                made(plan, path), runner=runner, callbacks=[note], lane=plan[0]
            )
            calls.append(Call(app, environ_for(path)).begin())
        ended: dict[int, bool] = {}
        for number in [number for number in order if number < len(calls)]:
            if number not in ended:
                try:
                    if calls[number].step() is None:
                        ended[number] = True
                except LookupError:
                    ended[number] = False
        for number in reversed(range(len(calls))):
            try:
                calls[number].close()
            except ValueError:
                pass
        drain(runner)
        for number, call in enumerate(calls):
            path = f"/{number}"
            assert ran[path] == expected[path]
            assert outcomes[path].path == path
            assert outcomes[path].body_bytes == len(call.sent)
            assert outcomes[path].completion is (
                Completion.DISCONNECTED
                if number not in ended
                else Completion.SENT
                if ended[number]
                else Completion.FAILED
            )
        statistics = runner.statistics()
        assert statistics.succeeded == len(calls) + sum(map(len, expected.values()))
        assert statistics.failed == statistics.pending == statistics.running == 0
