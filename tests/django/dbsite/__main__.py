"""Serve the site on a free port, which is written to standard output."""

import socket

import uvicorn


def main() -> None:
    config = uvicorn.Config("tests.django.dbsite.asgi:application", log_level="warning")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        config.load()
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
