"""Prepare the database, then serve on 127.0.0.1 until Ctrl-C."""

import argparse
import logging
import os
import socket
import sys
import tempfile

import django
import uvicorn
from django.core.management import call_command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m asgi_demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    port = parser.parse_args().port
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        sys.exit(f"Port {port} cannot be used ({error}). Choose another one with --port.")

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d  %(message)s", datefmt="%H:%M:%S"
    )
    with tempfile.TemporaryDirectory(prefix="asgi_demo-") as directory:
        os.environ["ASGI_DEMO_DIRECTORY"] = directory
        os.environ["DJANGO_SETTINGS_MODULE"] = "asgi_demo.settings"
        django.setup()
        call_command("migrate", run_syncdb=True, verbosity=0)
        config = uvicorn.Config("asgi_demo.asgi:application", log_config=None, access_log=False)
        host, port = listener.getsockname()
        print(f"Database and mails of this run: {directory}")
        print(f"The demo is at http://{host}:{port}/  (Ctrl-C ends it)", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # uvicorn has shut down by now, and passes the signal on


if __name__ == "__main__":
    main()
