"""A program that calls a service through gRPC's own xDS client.

``grpc_client.py TARGET METHOD [PATIENCE]``: a call waits until there is a backend, or with
``impatient`` fails at once if there is none. It is a process of its own since gRPC reads
``GRPC_XDS_BOOTSTRAP_CONFIG`` once. It calls all the time and prints each answer that differs from
the one before, until its standard input ends.
"""

from __future__ import annotations

import sys
import threading

import grpc


def main(target: str, method: str, patience: str = "patient") -> None:
    """Call and print."""
    patient = patience == "patient"
    stop = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    last = ""
    with grpc.insecure_channel(target) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        while not stop.wait(0.01 if patient else 0.001):
            try:
                answer = call(b"", timeout=10, wait_for_ready=patient).decode()
            except grpc.RpcError as error:
                answer = f"failed: {error.code().name} {error.details()}"
            if answer != last:
                print(answer, flush=True)  # noqa: T201 - its answers
            last = answer


if __name__ == "__main__":
    main(*sys.argv[1:])
