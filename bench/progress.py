"""How far a long run has come, on a terminal only."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[float], None]
"""Takes how much more has been done."""


@contextlib.contextmanager
def tracking(what: str, total: float) -> Iterator[Advance]:
    """A bar of rich's while inside, gone afterwards; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:  # it is in the extra
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    # Drawn by us now and then: rich's own thread would wake up while we measure.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task(what, total=total)
        step, shown = max(total / 100, 1e-9), 0.0
        done = 0.0

        def advance(more: float) -> None:
            nonlocal done, shown
            done += more
            if done - shown >= step:
                shown = done
                progress.update(task, completed=done, refresh=True)

        progress.refresh()
        yield advance
