"""Run the demo long enough to prove one request with its callback."""

import re
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection


def main() -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "asgi_demo", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            print(line, end="")
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            sys.exit("the demo ended before it told its address")
        port = int(found[1])
        assert get(port, "/")[0] == 200
        assert get(port, "/callback-fails")[0] == 200
        deadline = time.monotonic() + 20
        while b"callback-fails" not in get(port, "/audit")[1]:
            if time.monotonic() > deadline:
                sys.exit("the callback has written no audit row within 20 s")
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        lines = demo.stdout.read()
        print(lines)
        sent = lines.index("GET /callback-fails has been sent")
        assert sent < lines.index("callback   write_audit_row begins"), "the response goes first"
        demo.wait(20)
    finally:
        demo.kill()
    print("one request with its callback: proven")


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


if __name__ == "__main__":
    main()
