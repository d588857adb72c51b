"""The runner of the process, which follows the settings."""

from .. import conf
from ..conf import Bounds
from ..runtime import Pace, log, process
from .runner import Runner


class _DefaultRunner(Runner):
    """The runner of the process: its bounds are the settings, at any time.

    Wrong settings are refused where they enter, at start-up and where a
    callback is registered. Should they become wrong while callbacks are under
    way, those still run, within the last bounds that were right.
    """

    def __init__(self) -> None:
        self._wrong_pace = Pace(1, 60.0)
        super().__init__()
        conf.followers.append(self._follow)
        self._follow(conf.checked[2])

    def _follow(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.slots.limit = bounds.limit

    def refresh(self) -> None:
        try:
            conf.bounds()
        except Exception:
            if self._wrong_pace.is_due():
                message = "ASYNC_AFTER is wrong now: the last right settings are kept"
                log("exception", "settings_wrong", message)


_default: Runner | None = None


def get_runner() -> Runner:
    """The runner of this process, made when it is first asked for."""
    global _default
    if _default is None:
        with process.making:
            if _default is None:
                _default = _DefaultRunner()
    return _default
