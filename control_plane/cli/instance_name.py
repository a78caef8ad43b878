"""How users name an instance: by its GUID, or by app/index, as in every table.

The rule of this module: a GUID is valid in every space, but an app is looked up only in the target
space, so that the command does not hit an instance of another space.
"""

from __future__ import annotations

import re
from typing import Protocol, TypeGuard

from control_plane.api.v1 import instance_pb2, instance_pb2_grpc
from control_plane.cli.client import Client
from control_plane.cli.errors import Failed
from control_plane.cli.globals import pasted, target
from control_plane.names import shown

_APP_AND_INDEX = re.compile(r"(.+)/([0-9]{1,9})")


class Indexed(Protocol):
    """A message about an instance."""

    @property
    def app(self) -> str:
        """The name of its app."""

    @property
    def index(self) -> int:
        """Its index."""


class NoInstance(Failed):
    """There is no instance of this name."""


def name_of(each: Indexed) -> str:
    """Return the name of an instance by its app and its index."""
    return f"{each.app}/{each.index}"


def is_app_and_index(text: str | None) -> TypeGuard[str]:
    """Tell whether a text, if there is one, names an instance by its app and its index."""
    return text is not None and _APP_AND_INDEX.fullmatch(text) is not None


def noun_of(text: str | None) -> str:
    """Return what a text names: an instance if it is an app and an index, otherwise an app."""
    return "instance" if is_app_and_index(text) else "app"


def listed_by(text: str) -> str:
    """Return the command that lists the instances among which a text names one."""
    parts = _APP_AND_INDEX.fullmatch(text)
    return target().command("instances", parts[1]) if parts else pasted("c2c instances --all")


def find_instance(client: Client, text: str) -> instance_pb2.Instance | None:
    """Return the instance that a text names, if there is one.

    Raises:
        Failed: there is no such app.
    """
    parts = _APP_AND_INDEX.fullmatch(text)
    request = instance_pb2.ListInstancesRequest()
    if parts:
        where = target()
        request = instance_pb2.ListInstancesRequest(app=parts[1], space=where.space, org=where.org)
    stub = instance_pb2_grpc.InstanceServiceStub(client.channel)
    for each in client.call(stub.ListInstances, request).instances:
        if each.index == int(parts[2]) if parts else each.guid == text:
            return each
    return None


def require_instance(client: Client, text: str) -> instance_pb2.Instance:
    """Return the instance that a text names.

    Raises:
        NoInstance: there is none.
        Failed: there is no such app.
    """
    found = find_instance(client, text)
    if found is None:
        raise NoInstance(f"instance {shown(text)} not found: '{listed_by(text)}' lists them")
    return found


def asked_instance(client: Client, text: str | None) -> instance_pb2.Instance | None:
    """Return the instance that a command is about; None if it is about an app, or about all.

    Raises:
        NoInstance: there is none of this name.
        Failed: there is no such app.
    """
    return require_instance(client, text) if is_app_and_index(text) else None
