"""A client that speaks HTTP/2 without TLS, knowing that the server does too."""

import socket
from collections import defaultdict
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded

from .client import DEADLINE
from .launch import HOST


class Http2Client:
    """One connection. A stream is known by its number."""

    def __init__(self, port: int, report: Callable[[], str]) -> None:
        self._report = report
        self._socket = socket.create_connection((HOST, port), DEADLINE)
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._connection.initiate_connection()
        self._statuses: dict[int, int] = {}
        self._bodies: dict[int, bytes] = defaultdict(bytes)
        self._ended: set[int] = set()
        self._flush()

    def send(self, target: str) -> int:
        stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", target),
        ]
        self._connection.send_headers(stream, headers, end_stream=True)
        self._flush()
        return stream

    def response(self, stream: int) -> tuple[int, bytes]:
        """Status and body, when the server has ended the stream."""
        self._until(lambda: stream in self._ended)
        return self._statuses[stream], self._bodies[stream]

    def some_of(self, stream: int) -> bytes:
        """What has come of the body, as soon as anything has."""
        self._until(lambda: bool(self._bodies[stream]))
        return self._bodies[stream]

    def reset(self, stream: int) -> None:
        self._connection.reset_stream(stream)
        self._flush()

    def close(self) -> None:
        self._socket.close()

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"nothing more in time\n{self._report()}") from None
            assert data, f"the connection ended early\n{self._report()}"
            for event in self._connection.receive_data(data):
                self._take(event)
            self._flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._statuses[event.stream_id] = int(dict(event.headers)[b":status"])
        elif isinstance(event, DataReceived):
            self._bodies[event.stream_id] += event.data
            length = event.flow_controlled_length
            self._connection.acknowledge_received_data(length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._ended.add(event.stream_id)

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def __enter__(self) -> "Http2Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
