"""How a callback is to be run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from .outcome import Completion, Outcome

Predicate = Callable[[Outcome], object]
When = Literal["always", "success", "disconnect", "error", "acknowledged"]
Lane = Literal["loop", "threads", "background"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a callback is to be run; checked where it enters (``registration.options``)."""

    when: When | Predicate = "always"
    takes_outcome: bool = False
    timeout: float | None = None
    key: object = None
    name: str | None = None
    concurrent: bool = False
    lane: Lane | None = None
    on_commit: bool | str = False
    delivery_timeout: float | None = None

    asks: bool = field(init=False, compare=False, repr=False)
    """Whether the outcome matters to it."""
    awaits_delivery: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asks", self.takes_outcome or self.when != "always")
        object.__setattr__(self, "awaits_delivery", self.when == "acknowledged")

    def wants(self, outcome: Outcome) -> bool:
        """Whether ``when`` selects this outcome. Predicates are asked in the lane."""
        match self.when:
            case "success":
                return outcome.is_success
            case "disconnect":
                return outcome.completion is Completion.DISCONNECTED
            case "error":
                return not outcome.is_success and outcome.completion is not Completion.DISCONNECTED
        return True


def name_of(func: Callable[..., Any]) -> str:
    """``module.qualname`` of what is called in the end: partials are unwrapped. Of what does
    not tell, it is that of its class."""
    while issubclass(type(func), functools.partial):
        func = func.func  # type: ignore[attr-defined]
    return _told(func) or _told(type(func)) or "?"


def _told(func: Any) -> str | None:
    try:
        qualname, module = func.__qualname__, getattr(func, "__module__", None)
    except Exception:  # it has none, or code of its own that raises
        return None
    if type(qualname) is not str:
        return None
    return f"{(type(module) is str and module) or '?'}.{qualname}"
