"""async_after in a Django project."""

from .middleware import AfterResponseMiddleware

__all__ = ["AfterResponseMiddleware"]
