"""How a callback is to be run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "asks", self.takes_outcome or self.when != "always")

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
