"""What the views send; without Django, for the tests too."""

from pathlib import Path

BODY = b"The body of the response.\n"
PART = b"." * 65_536
FILE_SIZE = 20 * 2**20


def file_path(events: str) -> Path:
    """The big file, next to the file of the events: the tests make it."""
    return Path(events).with_name("big.file")
