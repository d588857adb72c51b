"""Serve the site on a free port, which is written to standard output."""

import socket

import uvicorn
import waitress  # type: ignore[import-untyped]

from .settings import SERVER


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        (_serve_wsgi if SERVER == "waitress" else _serve_asgi)(listening)


def _serve_asgi(listening: socket.socket) -> None:
    config = uvicorn.Config("tests.django.dbsite.asgi:application", log_level="warning")
    config.load()
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _serve_wsgi(listening: socket.socket) -> None:
    from .wsgi import application

    print(listening.getsockname()[1], flush=True)
    waitress.serve(application, sockets=[listening], threads=8, _quiet=True)


if __name__ == "__main__":
    main()
