"""Finds secrets where they must not be.

The rule of this module: a private key is looked for in every shape in which one could slip out:
each piece of its PEM body, its number as it is in DER, in hexadecimal, in decimal and in base64. A
join token has one shape.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PIECES = (slice(48, 64), slice(64, 80), slice(80, 96))
"""Where the private number of a P-256 key is in the body of its PKCS#8 PEM. What stands before is
the same in every key, and what follows is public; each piece has 60 bits at least."""


@dataclass(slots=True)
class Secrets:
    """What must not be found, and what to call it in a report."""

    shapes: dict[bytes, str] = field(default_factory=dict)

    def add_token(self, token: str) -> None:
        """Look for a join token."""
        self.shapes[token.encode()] = "a join token"

    def add_key(self, pem: bytes, whose: str) -> None:
        """Look for a private key, given as unencrypted PEM of PKCS#8."""
        key = load_pem_private_key(pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        number = key.private_numbers().private_value
        octets = number.to_bytes(32)
        body = b"".join(pem.splitlines()[1:-1])
        named = {
            **{body[piece]: "PEM" for piece in PIECES},
            octets: "bytes",
            octets.hex().encode(): "hexadecimal",
            str(number).encode(): "decimal",
            base64.b64encode(octets)[:40]: "base64",
        }
        for shape, kind in named.items():
            self.shapes[shape] = f"the private key of {whose} as {kind}"

    def found_in(self, data: bytes | str) -> set[str]:
        """Return what is in some data."""
        haystack = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        return {name for shape, name in self.shapes.items() if shape in haystack}

    def found_in_any(self, data: Iterable[bytes | str]) -> set[str]:
        """Return what is in some of these."""
        return set().union(*map(self.found_in, data))

    def holders(self, directory: Path) -> dict[str, set[str]]:
        """Return what is in the files below a directory, by their paths."""
        found = {
            str(path.relative_to(directory)): self.found_in(path.read_bytes())
            for path in directory.rglob("*")
            if path.is_file()
        }
        return {path: names for path, names in found.items() if names}
