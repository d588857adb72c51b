"""``bench interference`` compares what was measured together, and its verdict can fail."""

import argparse
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench import interference, interference_plan, interference_table, report_command, runs
from bench.client import request
from bench.interference_plan import FEWEST, NOTHING, OURS, QUEUE, RATES, Cell, Measured, cells
from bench.interference_table import BETTER, MISSED, NO_DIFFERENCE, no_worse
from bench.openloop import OpenLoop, Stream, schedule
from bench.report import Table
from bench.results import Figure
from bench.runs import Results, Run
from bench.stats import Estimate
from bench.summary import judged

from ..required import soak
from .terminal import on_a_terminal, run_bench

RATIO = "interference/async_after/sync CPU 5 ms, 200 per second/x p99 of the best rival"
LOWER_END = f"{RATIO}, lower end of the interval"
MILLISECONDS = {NOTHING: 2.0, OURS: 6.0, "starlette": 8.0, "run_in_executor": 5.0, "thread": 20.0}
"""The p99 of each way."""


def measured(
    p99s: Mapping[str, float],
    *,
    kinds: tuple[str, ...] = ("cpu",),
    rates: tuple[float, ...] = RATES[:1],
    rounds: int = 11,
    per_second: float = interference_plan.CALLBACKS,
    spread: float = 0.02,
) -> Measured:
    """Milliseconds; odd and even rounds of ours differ by ``spread`` to either side."""
    left = {way: "it is not here" for way in interference_plan.TITLES if way not in p99s}
    found = Measured(rounds=rounds, per_second=per_second)
    for cell in cells(kinds, rates, left):
        p99 = p99s[cell.way] / 1e3
        of_round = [
            p99 * (1 + spread * (-1) ** number) if cell.way == OURS else p99
            for number in range(rounds + 1)  # the last one was cut
        ]
        found.slices[cell] = [[1e-3] * 95 + [worst] * 5 for worst in of_round]
    return found


def tables(found: Measured, **more: bool) -> list[Table]:
    return list(interference_table.tables("a server", found, {QUEUE: "no Redis"}, 1, **more))


def figures(*of: Table) -> dict[str, Figure]:
    return {figure.name: figure for table in of for figure in table.figures}


# The plan.


def test_all_kinds_at_the_first_rate_and_cpu_alone_at_the_others() -> None:
    planned = cells([*interference_plan.KINDS], RATES, {QUEUE: "no Redis"})
    assert len(set(planned)) == len(planned)
    for rate in RATES:
        of_rate = [cell for cell in planned if cell.rate == rate]
        assert sum(cell.is_control for cell in of_rate) == 2
        kinds = {cell.kind for cell in of_rate if not cell.is_control}
        assert kinds == (set(interference_plan.KINDS) if rate == RATES[0] else {"cpu"})
    assert not any(cell.way == QUEUE for cell in planned)
    coroutines = {cell.way for cell in planned if cell.kind == "async" and not cell.is_control}
    assert coroutines == {OURS, "starlette", "create_task"}


def test_without_cpu_there_is_one_rate() -> None:
    planned = cells(["sync"], RATES, {})
    assert {cell.rate for cell in planned} == {RATES[0]}


def test_options_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    interference.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--rates", "0"])
    assert "from 1 to 100000 a second" in capsys.readouterr().err


def test_the_report_gives_it_options_that_it_has() -> None:
    parser = argparse.ArgumentParser()
    interference.add_arguments(parser)
    step = report_command.STEPS["interference"]
    args = parser.parse_args(step.full.split())
    assert (args.rounds or interference.ROUNDS) >= FEWEST  # else it would judge nothing
    assert parser.parse_args(step.quick.split()).kind is None


# The verdict.


@pytest.mark.parametrize(
    ("low", "value", "high", "word"),
    [
        (0.8, 0.9, 0.99, BETTER),
        (0.8, 0.9, 1.0, BETTER),
        (0.8, 0.9, 1.01, NO_DIFFERENCE),
        (0.9, 1.2, 3.0, NO_DIFFERENCE),
        (1.0, 1.2, 3.0, NO_DIFFERENCE),
        (1.01, 1.2, 3.0, MISSED),
    ],
)
def test_no_worse_than_the_best(low: float, value: float, high: float, word: str) -> None:
    assert no_worse(Estimate(value, low, high)) == word


@pytest.mark.parametrize(
    ("best", "spread", "word", "is_met"),
    [
        (7.0, 0.02, BETTER, True),
        (6.0, 0.02, NO_DIFFERENCE, True),
        (5.0, 0.02, MISSED, False),
        (5.0, 0.3, NO_DIFFERENCE, True),
    ],
)
def test_the_verdict_is_about_the_best_rival(
    best: float, spread: float, word: str, is_met: bool
) -> None:
    """What the report says of the figure agrees with the word in the table."""
    p99s = {**MILLISECONDS, "run_in_executor": best, QUEUE: 1.0}
    [table] = tables(measured(p99s, spread=spread))
    [row] = [row for row in table.rows if row[1] == "async_after"]
    assert row[-1].endswith(f": {word}")
    found = figures(table)
    assert found[RATIO].aim is None
    assert found[LOWER_END].is_met is is_met
    assert found[LOWER_END].estimate.value == found[RATIO].estimate.low
    assert judged(found[LOWER_END]) == ("met" if is_met else "missed")
    assert sum(figure.aim is not None for figure in found.values()) == 1


def test_the_cell_of_the_aim() -> None:
    found = Measured(rounds=FEWEST)
    assert found.is_judged(Cell(OURS, "cpu", 200.0))
    for other in (
        Cell("starlette", "cpu", 200.0),
        Cell(OURS, "sync", 200.0),
        Cell(OURS, "cpu", 100.0),
    ):
        assert not found.is_judged(other)


def test_a_faster_queue_is_no_rival() -> None:
    found = figures(*tables(measured({**MILLISECONDS, QUEUE: 1.0})))
    assert found[RATIO].estimate.value == pytest.approx(6 / 5, rel=0.03)


@pytest.mark.parametrize(("rounds", "per_second"), [(FEWEST - 1, 40.0), (FEWEST, 20.0)])
def test_fewer_rounds_or_other_callbacks_judge_nothing(rounds: int, per_second: float) -> None:
    [table] = tables(measured(MILLISECONDS, rounds=rounds, per_second=per_second))
    assert LOWER_END not in figures(table)
    assert not any(word in cell for row in table.rows for cell in row for word in (MISSED, "met"))
    assert ("Fewer than 6 rounds judge nothing." in table.notes) is (rounds < FEWEST)


# The tables.


def test_the_tables() -> None:
    kinds = "sync", "cpu"
    main, by_rate = tables(measured(MILLISECONDS, kinds=kinds, rates=RATES, rounds=7))
    assert [row[:2] for row in main.rows] == [
        ["none", "-"],
        *(
            [kind, way]
            for kind in ("sync sleep 100 ms", "sync CPU 5 ms")
            for way in (
                "async_after",
                "Starlette BackgroundTask",
                "run_in_executor",
                "a thread per call",
            )
        ),
    ]
    [thread] = [row for row in main.rows if row[:2] == ["sync CPU 5 ms", "a thread per call"]]
    assert thread[2:] == ["1.00", "20.00 [20.00, 20.00]", "20.0", "10.00 [10.00, 10.00]", "-"]
    assert by_rate.columns == ["p99 ms", "100/s", "200/s", "400/s"]
    assert [row[0] for row in by_rate.rows][:3] == ["none", "async_after", "  x best rival"]
    assert "queue: Celery with Redis: left out, no Redis." in main.notes
    assert not any("INTERRUPTED" in note for note in main.notes)
    names = [figure.name for table in (main, by_rate) for figure in table.figures]
    assert len(set(names)) == len(names)


def test_a_round_that_was_cut_does_not_count() -> None:
    found = measured(MILLISECONDS, rounds=1)
    for latencies in found.slices.values():
        latencies[1:] = [[9.0] * 100]
    [table] = tables(found, is_cut=True)
    assert all(figure.estimate.value < 9.0 for figure in table.figures if figure.unit == "s")
    assert any("INTERRUPTED" in note for note in table.notes)


def test_the_plot_finds_its_figures() -> None:
    pytest.importorskip("matplotlib")
    from bench.plots_interference import p99

    run = Run("interference", "interference", {}, "abc", "2030-01-01T00:00:00+00:00", 0.5)
    run.tables = tables(measured(MILLISECONDS, kinds=("sync", "cpu"), rates=RATES))
    [(_, _, canvas)] = p99(Results({}, [run]))
    assert [panel.get_title() for panel in canvas.axes] == ["sync sleep 100 ms", "sync CPU 5 ms"]
    [legend] = canvas.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "no callbacks",
        "async_after",
        "Starlette BackgroundTask",
        "run_in_executor",
        "a thread per call",
    }


# The open loop.

Respond = Callable[[str], bytes]
"""To a path."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(respond: Respond) -> Iterator[int]:
    """One that takes several connections, and answers one request after another."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        one_at_a_time = threading.Lock()
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection, connection.makefile("rb") as stream:
                while line := stream.readline():
                    while stream.readline().strip():
                        pass
                    with one_at_a_time:
                        answer = respond(line.split()[1].decode())
                    if not answer:
                        return
                    connection.sendall(answer)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed
                    return
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(10)
                assert not thread.is_alive()


def test_streams_share_connections_and_are_told_apart() -> None:
    paths: list[str] = []

    def respond(path: str) -> bytes:
        paths.append(path)
        return OK

    fast, slow = schedule(200, 0.2, seed=1), schedule(50, 0.2, seed=2)
    with server(respond) as port, OpenLoop(port, burst=0, connections=4) as client:
        client.warm_up(request("/warm"))
        found = client.measure_streams(
            Stream(request("/fast"), fast), Stream(request("/slow"), slow)
        )
    assert list(map(len, found)) == [40, 10]
    assert [paths.count(path) for path in ("/warm", "/fast", "/slow")] == [4, 40, 10]
    assert all(latency >= 0 for latencies in found for latency in latencies)


def test_latency_counts_from_when_a_request_was_due() -> None:
    """What waits for a connection behind a slow request is charged to the server."""

    def respond(path: str) -> bytes:
        time.sleep(0.2 if path == "/slow" else 0)
        return OK

    with server(respond) as port, OpenLoop(port, burst=0, connections=1) as client:
        client.warm_up(request("/plain"))
        [plain, slow] = client.measure_streams(
            Stream(request("/plain"), [0.05, 0.1]), Stream(request("/slow"), [0.0])
        )
    assert slow[0] >= 0.2
    assert plain[0] >= 0.15
    assert plain[1] >= 0.1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection before the response"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answered 503"),
    ],
)
def test_a_server_that_fails_is_not_measured(answer: bytes, said: str) -> None:
    with (
        server(lambda path: answer if path == "/b" else OK) as port,
        OpenLoop(port, burst=0, connections=2) as client,
    ):
        client.warm_up(request("/a"))
        with pytest.raises(ConnectionError, match=said):
            client.measure_streams(Stream(request("/a"), [0.0]), Stream(request("/b"), [0.01]))


# Real runs.


@soak
def test_all_ways_run_all_their_callbacks(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    options = "--rounds", "1", "--rates", "200", "400", "--json", path
    ended = run_bench("interference", *options, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [run] = runs.read(path).runs
    main, by_rate = run.tables
    # Where there is no Redis the queue is left out, and told.
    is_left = any("left out" in note for note in main.notes)
    ways = {row[1] for row in main.rows}
    assert ways == {"-", *interference_plan.TITLES.values()} - (
        {interference_plan.TITLES[QUEUE]} if is_left else set()
    )
    assert all(figure.estimate.value > 0 for table in run.tables for figure in table.figures)
    assert by_rate.columns[1:] == ["200/s", "400/s"]


@soak
def test_ctrl_c_ends_server_and_queue_and_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    options = "--kind", "cpu", "--rates", "200", "--rounds", "2", "--json", path
    with on_a_terminal("interference", *options) as it:
        it.wait_for(rb"[7-9]\d %", 90)  # the warm-up, and one of two rounds
        it.end(signal.SIGINT)
        assert it.process.returncode == 130, it.output()
    [run] = runs.read(path).runs
    assert run.state == "interrupted"
    [table] = run.tables
    assert "INTERRUPTED" in table.render()
    assert "Rounds: 1." in table.render()
