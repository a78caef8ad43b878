"""The app that greets listens where it is told to."""

from __future__ import annotations

import threading
from http.client import HTTPConnection

import pytest

from control_plane.demo.hello import server
from tests.needs import need_ipv6


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_listens_on_an_address_of_either_family(host: str) -> None:
    """As the app of an instance, it is asked wherever --app-address leads."""
    listen = f"[{host}]:0" if ":" in host else f"{host}:0"
    if ":" in host:
        need_ipv6()
    with server(listen, "app-b") as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            client = HTTPConnection(host, serving.server_port, timeout=10)
            client.request("GET", "/")
            answer = client.getresponse().read()
            client.close()
        finally:
            serving.shutdown()
            thread.join()

    assert answer.startswith(b"hello from app-b")
