"""A cache backend that tells who used which client, and whether it was closed."""

import threading
from itertools import count
from typing import Any

from django.core.cache.backends.locmem import LocMemCache

clients: "list[Recorded]" = []
_numbers = count(1)


class Recorded(LocMemCache):
    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self.number = next(_numbers)
        self.thread = threading.get_ident()
        self.closed = 0
        clients.append(self)

    def close(self, **kwargs: Any) -> None:
        self.closed += 1
        super().close(**kwargs)
