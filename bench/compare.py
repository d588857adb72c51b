"""``report --compare OLD.json``: what got better or worse, by intervals that do not overlap."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .report import Table
from .results import Figure
from .runs import Results
from .summary import shown

BETTER, WORSE = "better", "worse"


@dataclass(frozen=True, slots=True)
class Change:
    old: Figure
    new: Figure

    @property
    def word(self) -> str | None:
        """``None`` where the intervals overlap."""
        if self.new.estimate.low > self.old.estimate.high:
            return WORSE if self.new.better == "lower" else BETTER
        if self.new.estimate.high < self.old.estimate.low:
            return BETTER if self.new.better == "lower" else WORSE
        return None


def table(old: Results, new: Results, name: str) -> Table:
    """``name``: of the old results."""
    before = {figure.name: figure for figure in old.figures()}
    after = {figure.name: figure for figure in new.figures()}
    changes = [
        Change(before[path], figure)
        for path, figure in after.items()
        if path in before and before[path].unit == figure.unit
    ]
    rows = [
        [
            change.new.name,
            shown(change.old.estimate, change.old.unit),
            shown(change.new.estimate, change.new.unit),
            word,
        ]
        for word in (WORSE, BETTER)
        for change in changes
        if change.word == word
    ]
    notes = [
        f"{len(changes)} figures are in both, {len(changes) - len(rows)} without a difference:"
        " their intervals overlap.",
        "Where nothing has changed, about one in 180 differs by chance.",
        *_others("only in the old results", set(before) - set(after)),
        *_others("only in the new results", set(after) - set(before)),
        *_machines(old, new),
    ]
    return Table(f"Compared with {name}", ("figure", "old", "new", ""), rows, notes)


def _others(what: str, names: set[str]) -> Iterator[str]:
    if names:
        more = f", ... {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{len(names)} {what}: {', '.join(sorted(names)[:3])}{more}."


def _machines(old: Results, new: Results) -> Iterator[str]:
    """What else differs, and may be the reason."""
    for key in sorted(new.machine.keys() | old.machine.keys()):
        was, now = old.machine.get(key), new.machine.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            for package in sorted(was.keys() | now.keys()):
                if was.get(package) != now.get(package):
                    yield f"{package}: {was.get(package)} then, {now.get(package)} now."
        elif was != now:
            yield f"ANOTHER {key}: {was} then, {now} now."
