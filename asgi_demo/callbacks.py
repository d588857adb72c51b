"""What runs after the responses."""

import asyncio
import logging
import time

from django.core.mail import send_mail

from async_after import Outcome

from .models import AuditRow

logger = logging.getLogger("asgi_demo")


async def write_audit_row(outcome: Outcome) -> None:
    logger.info("callback   write_audit_row begins (a coroutine function)")
    await asyncio.sleep(0.5)  # a slow service
    await AuditRow.objects.acreate(
        path=outcome.path or "",
        status=outcome.status,
        completion=outcome.completion.value,
        body_bytes=outcome.body_bytes,
        seconds=outcome.duration,
    )
    logger.info("callback   write_audit_row has written: %s", outcome.completion.value)


def send_receipt(order: int, item: str) -> None:
    logger.info("callback   send_receipt begins (a plain function, in a thread)")
    time.sleep(0.5)  # a slow mail server
    send_mail(f"Order {order}", f"Thank you for ordering: {item}", None, ["you@example.com"])
    logger.info("callback   send_receipt has written the mail")


def break_down() -> None:
    logger.info("callback   break_down begins, and will raise")
    raise RuntimeError("this callback always fails; the client has its response all the same")
