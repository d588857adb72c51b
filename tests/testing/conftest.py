"""The runners of these tests are made and ended as those of the core's."""

from ..core.conftest import make_runner as make_runner
from ..core.conftest import runner as runner
