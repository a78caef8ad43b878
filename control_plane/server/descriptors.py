"""Definitions of messages by their full names, as far as an installed package has them.

The rule of this module: the modules of Envoy's types (six hundred, 0.4 s to import) are imported
only when they are asked for; a name that a client makes up imports nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from typing import TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_FOREIGN = re.compile(r"((?:envoy|google|udpa|validate|xds)(?:\.[a-z][a-z0-9_]*)*)\.[A-Z]")
"""A type of protobuf, googleapis-common-protos or xds-protos; group 1 is its package."""

_Found = TypeVar("_Found")


def found(find: Callable[[str], _Found], symbol: str) -> _Found:
    """Look up a symbol; if it is missing, import the package that would define it and try again.

    Raises:
        KeyError: no package defines it.
    """
    try:
        return find(symbol)
    except KeyError:
        match = _FOREIGN.match(symbol)
        if match is None:
            raise
        import_messages(match[1])
        return find(symbol)


class ImportingPool:
    """Definitions of messages, imported when protobuf's JSON looks them up."""

    def FindMessageTypeByName(self, name: str) -> Descriptor:
        """Return a definition.

        Raises:
            KeyError: no package defines it.
        """
        return found(descriptor_pool.Default().FindMessageTypeByName, name)


def message_class(type_url: str) -> type[Message] | None:
    """Return the class for messages of a type; None if no package defines the type."""
    try:
        descriptor = ImportingPool().FindMessageTypeByName(type_url.rpartition("/")[2])
    except KeyError:
        return None
    return message_factory.GetMessageClass(descriptor)


def import_messages(package: str) -> None:
    """Import the messages that a package defines, if there is such a package."""
    try:
        parent = importlib.import_module(package)
    except ModuleNotFoundError:
        return
    for module in pkgutil.iter_modules(getattr(parent, "__path__", [])):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{module.name}")
