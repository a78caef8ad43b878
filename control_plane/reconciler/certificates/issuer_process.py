"""The second process, which issues certificates while a crowd waits for them.

The rule of this module: the process has no state except the authority that it was given last. It
works through what arrives on standard input and answers each batch on standard output. It ends when
standard input does, so it never outlives the control plane, however that ended.

A frame is a head that contains the length, and then a pickle. Both ends of the pipe are ours.
"""

from __future__ import annotations

import pickle
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from control_plane.ca import Authority, Leaf, Profile, new_key_pair
from control_plane.ca.parcel import AuthorityParcel, Order
from control_plane.errors import ControlPlaneError
from control_plane.reconciler.certificates.dumps import forbid_dumps

PROGRAM = (sys.executable, "-P", "-c", f"from {__name__} import main; main()")
"""How the process is started. With ``-m``, the classes of its messages would belong to a module
``__main__``."""

HEAD_OCTETS = 4
"""The length of the head of a frame, which says how long the rest is."""


@dataclass(frozen=True, slots=True)
class Signer:
    """The authority that signs, and the profile of what it signs."""

    authority: AuthorityParcel
    profile: Profile


@dataclass(frozen=True, slots=True)
class Batch:
    """Orders to fill.

    Attributes:
        signer: the signer of this batch and the following ones; None for that of the previous
            batch.
    """

    orders: Sequence[Order]
    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """The outcome of an order.

    Attributes:
        leaf: the certificate; None if it could not be issued. The main process then tries itself
            and learns why.
        seconds: how long it took.
    """

    leaf: Leaf | None = field(repr=False)
    seconds: float


def frame(message: object) -> bytes:
    """Return a message as it goes over the pipe."""
    pickled = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(pickled).to_bytes(HEAD_OCTETS, "big") + pickled


def length_of(head: bytes) -> int:
    """Return how many bytes follow the head of a frame."""
    return int.from_bytes(head, "big")


def unframed(pickled: bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return the message in a frame of ours."""
    return pickle.loads(pickled)  # noqa: S301 - from a process of ours, over a pipe that is ours


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Fill batches until there are no more."""
    signer: tuple[Authority, Profile] | None = None
    while len(head := source.read(HEAD_OCTETS)) == HEAD_OCTETS:
        batch: Batch = unframed(source.read(length_of(head)))
        if batch.signer is not None:
            signer = batch.signer.authority.open(), batch.signer.profile
        filled: list[Filled] = []
        for order in batch.orders:
            started, leaf = time.perf_counter(), None
            if signer is not None:
                try:
                    leaf = order.fill(*signer, new_key_pair)
                except ControlPlaneError:
                    leaf = None
            filled.append(Filled(leaf, time.perf_counter() - started))
        sink.write(frame(filled))
        sink.flush()


def main() -> None:
    """Serve on standard input and output."""
    forbid_dumps()
    # Ctrl-C at a terminal interrupts the control plane and all processes that it started. The
    # control plane ends this one by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
