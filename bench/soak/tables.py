"""The tables of ``soak``, each with whether all in it is right."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..report import Table
from ..results import Figure
from ..stats import Estimate
from .findings import NAMED, NEVER, TRACES, Findings

STATES = ("succeeded", "failed", "timed out", "cancelled", "skipped", "dropped")
UNSETTLED = ("open_exchanges", "waiting", "overdue", "pending", "running")
END_SECONDS = 8.0
"""The app's timeouts for the shutdown are 4 s and 2 s."""
MEMORY_SHARE, MEMORY_KIB = 1.1, 4096
"""How much larger the process may be at the end than at two thirds."""
BLOCKS, BLOCKS_SHARE = 5000, 0.1
"""How many more of Python's blocks may be in use: so many, and so many per exchange."""

Result = tuple[Table, bool]


def of(title: str, findings: Findings) -> Iterator[Result]:
    yield _sums(f"{title}: what became of the callbacks", findings)
    yield _leaks(f"{title}: what was left behind", findings)
    yield _checks(f"{title}: what else must hold", findings)


def _ok(is_right: bool, otherwise: str = "WRONG") -> str:
    return "ok" if is_right else otherwise


def _table(
    title: str,
    columns: tuple[str, ...],
    rows: list[tuple[list[str], bool]],
    notes: list[str],
    wrong: str = "WRONG",
) -> Result:
    shown = [[*row, _ok(is_right, wrong)] for row, is_right in rows]
    wrong_rows = sum(not is_right for _, is_right in rows)
    path = f"soak/{title.rpartition(': ')[2]}/lines that are not ok"
    figures = [Figure(path, "count", Estimate(wrong_rows, wrong_rows, wrong_rows), aim=0)]
    return Table(title, columns, shown, notes, figures), not wrong_rows


# The sums.


def _sums(title: str, findings: Findings) -> Result:
    books = findings.final or findings.rest
    rows = []
    for kind, told in books["kinds"].items():
        states = told["states"]
        is_right = not told["wrong"] and sum(states.values()) == told["registered"]
        rows.append((_row(kind, told["registered"], states, told["entered"]), is_right))
    every, exchanges = sum(books["every"].values()), books["exchanges"]
    is_right = every == exchanges
    rows.append(
        (_row("the wrapper's callbacks=", exchanges, {"succeeded": every}, every), is_right)
    )
    for name, told in {"at rest": findings.rest, "at the end": findings.final}.items():
        if told:
            counted, count = _total(told)
            statistics = {state.replace("_", " "): n for state, n in told["statistics"].items()}
            is_right = count == statistics["registered"]
            is_right = is_right and all(counted[s] == statistics[s] for s in STATES)
            # A plain function that the shutdown has given up goes on holding its thread.
            zero = UNSETTLED if name == "at rest" else [n for n in UNSETTLED if n != "overdue"]
            is_right = is_right and not any(told["statistics"][state] for state in zero)
            rows.append((_row(f"all, {name}", count, counted, None), True))
            shown = _row(f"statistics(), {name}", statistics["registered"], statistics, None)
            rows.append((shown, is_right))
    columns = ("callbacks", "registered", *STATES, "called", "")
    notes = [
        f"{books['exchanges']} exchanges, {books['in_background']} of the callbacks in the"
        " background lane. Counted by the app itself;",
        "each callback's state is what its kind may end in, and what its function has seen.",
        *books["problems"],
    ]
    return _table(title, columns, rows, notes)


def _row(name: str, count: int, states: Mapping[str, int], called: int | None) -> list[str]:
    shown = [str(states.get(state, 0) or "") for state in STATES]
    return [name, str(count), *shown, "" if called is None else str(called)]


def _total(books: Mapping[str, Any]) -> tuple[Counter[str], int]:
    """By state, and how many were registered, the wrapper's own included."""
    states = Counter[str]({"succeeded": sum(books["every"].values())})
    count = books["exchanges"]
    for told in books["kinds"].values():
        states.update(told["states"])
        count += told["registered"]
    return states, count


# The leaks.


def _leaks(title: str, findings: Findings) -> Result:
    before, after = findings.before, findings.after
    most = before["max_threads"]
    rows: list[tuple[list[str], bool]] = []

    def row(what: str, was: int, now: int, allowed: int) -> None:
        rows.append(([what, str(was), str(now), str(allowed)], now <= allowed))

    most_default = before["max_default_threads"]
    threads = {"async_after worker": most, "asyncio": most_default}
    for group, own in {"threads": threads, "tasks": {}, "files": {}}.items():
        for name in sorted({*before[group], *after[group]}):
            was = before[group].get(name, 0)
            row(f"{group}: {name}", was, after[group].get(name, 0), own.get(name, was))
    grown = most - before["threads"].get("async_after worker", 0)
    per_thread = {"Context": 2 * grown + 4, "DatabaseWrapper": grown + 4, "Worker": grown}
    # Each of the default executor's keeps the exception that its queue has raised last.
    per_thread["traceback"] = most_default - before["threads"].get("asyncio", 0)
    for name, was, now in _objects(before["objects"], after["objects"]):
        row(f"objects: {name}", was, now, was + per_thread.get(name.rpartition(".")[2], 0))
    exchanges = findings.rest["exchanges"]
    blocks = before["blocks"] + BLOCKS + int(BLOCKS_SHARE * exchanges)
    row("blocks of memory in use", before["blocks"], after["blocks"], blocks)
    memory = findings.memory
    was, now = memory["at 2/3"], memory["at the end"]
    row("KiB, at 2/3 and at the end", was, now, int(was * MEMORY_SHARE) + MEMORY_KIB)
    for phase, told in findings.garbage.items():
        if phase != "failing":
            row(f"cycles of ours, {phase}", 0, told["cycles"], 0)
    columns = ("", "before", "after", "at most", "")
    moments = ", ".join(f"{name} {kib / 1024:.0f}" for name, kib in memory.items())
    notes = [
        "Before: behind the warm-up; after: behind the load; both at rest, after a collection.",
        "Objects: those of the package, and what a request leaves; equal ones are added up.",
        f"MiB: {moments}.",
        "Cycles: with an object of the package in them, that only the collector could free:",
        *(_cycles(phase, told) for phase, told in findings.garbage.items()),
    ]
    return _table(title, columns, rows, notes, wrong="LEAK")


_WORTH_A_ROW = ("Exchange", "Callback", "ASGIRequest", "HttpResponse", "Context", "DatabaseWrapper")


def _objects(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[tuple[str, int, int]]:
    """Those that matter most and those that have changed, by name; the others as one."""
    equal = 0
    for name in sorted({*before, *after}):
        was, now = before.get(name, 0), after.get(name, 0)
        if was != now and not name.endswith(_WORTH_A_ROW):
            yield name, was, now
        elif not name.endswith(_WORTH_A_ROW):
            equal += now
    for end in _WORTH_A_ROW:
        was, now = (sum(n for name, n in c.items() if name.endswith(end)) for c in (before, after))
        yield end, was, now
    yield "others", equal, equal


def _cycles(phase: str, told: Mapping[str, Any]) -> str:
    shapes = sorted(told["shapes"].items(), key=lambda item: -item[1])
    shown = "; ".join(f"{count} of {shape[:70]}" for shape, count in shapes[:2])
    more = f"; and {len(shapes) - 2} more shapes" if len(shapes) > 2 else ""
    return f"- {phase}: {told['requests']} requests, {told['cycles']} cycles: {shown or '-'}{more}"


# What else must hold.


def _checks(title: str, findings: Findings) -> Result:
    rows: list[tuple[list[str], bool]] = []

    def check(what: str, found: object, is_right: bool) -> None:
        rows.append(([what, str(found)], is_right))

    tally, final, rest = findings.tally, findings.final, findings.rest
    for problem, count in tally.problems.items():
        check(f"a client that did nothing wrong: {problem}", count, False)
    check("clients that waited in vain", sum(tally.problems.values()), not tally.problems)
    check("kinds that nobody asked for", ", ".join(findings.undrawn) or 0, not findings.undrawn)
    for name in ("sent", "disconnected", "failed"):
        count = rest["every"].get(name, 0)
        check(f"exchanges that ended as {name}: some", count, count > 0)
    written = rest["kinds"].get("database", {}).get("states", {}).get("succeeded", 0)
    check("rows that the callbacks wrote, in the database", rest["rows"], rest["rows"] == written)
    check("after SIGTERM: exit code", findings.code, findings.code in (0, -15))
    check(
        f"after SIGTERM: the process ended within {END_SECONDS:g} s",
        f"{findings.end_seconds:.1f} s",
        findings.end_seconds <= END_SECONDS,
    )
    check("after SIGTERM: callbacks not accounted for", *_open(final))
    named = sum(findings.log[text] for text in NAMED)
    check(f"given up callbacks that the log names: {NEVER}", named, named == NEVER)
    said: list[str] = []
    for text in TRACES:
        check(f'log lines with "{text}"', findings.log[text], not findings.log[text])
        said += findings.examples[text]
    behaviours = ", ".join(f"{name} {count}" for name, count in tally.behaviours.most_common())
    notes = [f"{tally.requests} requests of clients that: {behaviours}.", *said]
    return _table(title, ("", "found", ""), rows, notes)


def _open(final: Mapping[str, Any]) -> tuple[object, bool]:
    if not final:
        return "unknown: no last word of the app", False
    return final["unsettled"], not final["unsettled"]
