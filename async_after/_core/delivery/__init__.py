"""How far the bytes of a response got: the levels, and one probe for each server."""

from . import probes
from .levels import Connection, Delivery, Noted, Wait, level_of

__all__ = ["Connection", "Delivery", "Noted", "Wait", "level_of", "probes"]
