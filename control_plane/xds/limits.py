"""How much one client may ask for.

The rule of this module: everything that a client can make the server remember has a bound, and each
bound is a number here. A client that exceeds one loses its stream and disturbs nobody else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain
from typing import NoReturn

from control_plane.errors import PeerLimitExceeded
from control_plane.names import shown
from control_plane.xds.constraints import Parameters


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds for one stream.

    Attributes:
        types: how many resource types the client may ask for.
        names: how many resource names it may be subscribed to, over all types. The names of
            resources that a delta client states to have from an earlier stream count too.
        name_octets: how long a resource name may be.
        version_characters: how long a version that the client states may be; ours have 16
            characters.
        node_id_octets: how long a node id may be.
        parameters: how many dynamic parameters the client may ask for a name with.
        parameter_octets: how long a key or a value of a dynamic parameter may be.
        parameter_sets: how many sets of dynamic parameters there may be of one type.
    """

    types: int = 64
    names: int = 4096
    name_octets: int = 1024
    version_characters: int = 256
    node_id_octets: int = 256
    parameters: int = 64
    parameter_octets: int = 256
    parameter_sets: int = 64

    def check_node_id(self, node_id: str) -> None:
        """Bound the length of the node id.

        Raises:
            PeerLimitExceeded: it is too long.
        """
        if len(node_id.encode()) > self.node_id_octets:
            raise PeerLimitExceeded(
                f"node.id longer than {self.node_id_octets} octets: {shown(node_id)}"
            )

    def check_type(self, type_url: str, number: int) -> None:
        """Bound the types that the client asks for.

        Args:
            type_url: an additional type.
            number: how many types the stream has, this one included.

        Raises:
            PeerLimitExceeded: there are too many types, or the URL is too long.
        """
        if number > self.types:
            raise PeerLimitExceeded(f"more than {self.types} resource types on a stream")
        if len(type_url.encode()) > self.name_octets:
            raise PeerLimitExceeded(
                f"type_url longer than {self.name_octets} octets: {shown(type_url)}"
            )

    def check_number(self, names: int) -> None:
        """Bound how many names a request may ask for, give up or state, before any is processed.

        A client that asks for a few names too many is refused once it is known which client that
        is. This bound protects the other clients from requests that take long to process.

        Raises:
            PeerLimitExceeded: there are more than twice as many names as a stream may have.
        """
        if names > 2 * self.names:
            self._refuse(names)

    def check_names(self, names: Collection[str], total: int) -> None:
        """Bound the names that the client asks for.

        Args:
            names: the names that a request asks for or states.
            total: how many names the stream has, these included.

        Raises:
            PeerLimitExceeded: there are too many names, or one is too long.
        """
        if total > self.names:
            self._refuse(total)
        for name in names:
            if len(name.encode()) > self.name_octets:
                raise PeerLimitExceeded(
                    f"resource name longer than {self.name_octets} octets: {shown(name)}"
                )

    def _refuse(self, names: int) -> NoReturn:
        raise PeerLimitExceeded(f"more than {self.names} resource names on a stream: {names}")

    def check_versions(self, versions: Collection[str]) -> None:
        """Bound the stated versions, which are kept until the client accepts others.

        Raises:
            PeerLimitExceeded: one is too long.
        """
        if any(len(version) > self.version_characters for version in versions):
            raise PeerLimitExceeded(f"version longer than {self.version_characters} characters")

    def check_number_of_parameters(self, number: int) -> None:
        """Bound how many dynamic parameters a name may have, before any is processed.

        Raises:
            PeerLimitExceeded: there are too many.
        """
        if number > self.parameters:
            raise PeerLimitExceeded(
                f"more than {self.parameters} dynamic parameters of a resource: {number}"
            )

    def check_parameters(self, parameters: Parameters) -> None:
        """Bound the dynamic parameters of a name.

        Raises:
            PeerLimitExceeded: there are too many, or one is too long.
        """
        self.check_number_of_parameters(len(parameters))
        for text in chain.from_iterable(parameters):
            if len(text.encode()) > self.parameter_octets:
                raise PeerLimitExceeded(
                    f"dynamic parameter longer than {self.parameter_octets} octets: {shown(text)}"
                )

    def check_parameter_sets(self, number: int) -> None:
        """Bound the number of different sets of dynamic parameters; each set is kept once.

        Raises:
            PeerLimitExceeded: there are too many.
        """
        if number > self.parameter_sets:
            raise PeerLimitExceeded(
                f"more than {self.parameter_sets} sets of dynamic parameters of a resource type"
            )
