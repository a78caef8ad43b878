"""What the second process does, which issues certificates while a crowd waits for them.

The rule of this module: it has no state but the authority that it was given last, and no end of its
own: it works through what comes on standard input, answers each batch on standard output, and ends
when standard input does, so that it never outlives the control plane, however that ended.

A frame is a head with the length and a pickle. Both ends of the pipe are ours.
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
"""How it is started: not by ``-m``, by which its messages would be of a module ``__main__``."""

HEAD_OCTETS = 4
"""The head of a frame: how long the rest is."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and what."""

    authority: AuthorityParcel
    profile: Profile


@dataclass(frozen=True, slots=True)
class Batch:
    """Orders to fill.

    Attributes:
        signer: who signs these and those that follow; None for the one before.
    """

    orders: Sequence[Order]
    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of an order.

    Attributes:
        leaf: the certificate; None where it could not be issued, so that whoever wants it tries
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
    # Whoever interrupts the control plane at a terminal interrupts all that it started; it ends
    # this by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)
