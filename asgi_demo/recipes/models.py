"""Django looks for models here."""

from .analytics import Hit

__all__ = ["Hit"]
