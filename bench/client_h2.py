"""The client over HTTP/2 without TLS, which knows that the server speaks it ("prior knowledge").

One stream at a time; the h2 package says when a response is complete. It
takes a few hundred microseconds for itself, on both sides of a pair.
"""

import socket
from time import perf_counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset


class Http2Connection:
    """One connection, used for one stream at a time."""

    def __init__(self, port: int, *, timeout: float = 30) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What we send is right: not checking it saves time.
        configuration = H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._connection = H2Connection(configuration)
        self._connection.initiate_connection()
        self._flush()
        self._status = 0
        self._is_complete = False
        self._body: list[bytes] = []

    def close(self) -> None:
        self._socket.close()

    def complete(self, path: str) -> float:
        """Seconds from sending a request to the end of its stream."""
        self._is_complete = False
        self._body = []
        stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "127.0.0.1"),
            (":path", path),
            ("user-agent", "async-after-bench"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
        ]
        began = perf_counter()
        self._connection.send_headers(stream, headers, end_stream=True)
        self._flush()
        while not self._is_complete:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection before the response")
            for event in self._connection.receive_data(data):
                self._take(event)
            if not self._is_complete:  # acknowledgements can wait, the clock cannot
                self._flush()
        ended = perf_counter()
        self._flush()
        if self._status != 200:
            raise ConnectionError(f"the server answered {self._status}")
        return ended - began

    def get(self, path: str) -> bytes:
        """The body of a response, when time does not matter."""
        self.complete(path)
        return b"".join(self._body)

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._status = int(dict(event.headers)[b":status"])
        elif isinstance(event, DataReceived):
            assert event.data is not None
            assert event.flow_controlled_length is not None
            self._body.append(event.data)
            length = event.flow_controlled_length
            self._connection.acknowledge_received_data(length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self._is_complete = True
        elif isinstance(event, StreamReset):
            raise ConnectionError("the server reset the stream")

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
