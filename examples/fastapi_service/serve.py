"""Starts worker processes of a service: what `uvicorn service:app --workers 2` does, and answers without delay.

    python examples/fastapi_service/serve.py [--port 8000] [--workers 2]

uvicorn sends head and body of an answer one after the other. Over the socket that its workers share the system holds
the body back until the client has acknowledged the head, which takes 40 ms on a connection that is kept open;
TCP_NODELAY, which connections inherit from the socket that listens, ends that. Needs uvicorn.
"""

import argparse
import os
import socket
from pathlib import Path

import uvicorn


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--app", default="service:app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind((given.host, given.port))
        listening.set_inheritable(True)
        options = {"workers": given.workers, "access_log": False, "log_level": "warning"}
        uvicorn.run(given.app, fd=listening.fileno(), app_dir=str(Path(__file__).resolve().parent), **options)


if __name__ == "__main__":
    main()
