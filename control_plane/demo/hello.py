"""A small HTTP app that knows nothing of TLS: it answers with its name.

The rule of this module: it is an ordinary app, so it has nothing to do with Envoy, with
certificates or with this project.

python -m control_plane.demo.hello --listen 127.0.0.1:8080 --name app-b
"""

from __future__ import annotations

import argparse
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _handler(name: str) -> type[BaseHTTPRequestHandler]:
    class Hello(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A request and its answer are small: waiting to fill a packet would only cost time.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = f"hello from {name}, process {os.getpid()}\n".encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: the client has the answer."""

    return Hello


def server(listen: str, name: str) -> ThreadingHTTPServer:
    """Return a server that listens, and has yet to serve.

    Args:
        listen: ``HOST:PORT``; an IPv6 address is in brackets.
        name: the name that it answers with.
    """
    host, _, port = listen.rpartition(":")
    is_ipv6 = host.startswith("[")

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if is_ipv6 else socket.AF_INET

    return Server((host[1:-1] if is_ipv6 else host, int(port)), _handler(name))


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="Answer every GET with a greeting.")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--name", default="app")
    options = parser.parse_args()
    with server(options.listen, options.name) as serving:
        serving.serve_forever()


if __name__ == "__main__":
    main()
