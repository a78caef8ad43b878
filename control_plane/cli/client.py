"""The connection to a running server, and what it means when a call does not succeed.

The rule of this module: if the server refuses a call, its own sentence is passed on. For every
other failure, the sentence says what the user can do. Whether the server is still there is found
out by connecting, because gRPC does not say. If a change may have been made, the sentence says so,
and which command shows it.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import click
import grpc

from control_plane.cli.channel_options import CHANNEL_OPTIONS
from control_plane.cli.errors import Failed
from control_plane.cli.globals import Connection, connection, pasted
from control_plane.cli.outcome import REFUSED, is_decided, is_said_by_the_server, is_silent
from control_plane.cli.output import warn
from control_plane.cli.reach import Away, Credentials, try_socket, try_tls
from control_plane.errors import InvalidArgument
from control_plane.names import SERVER_NAME
from control_plane.settings import admin_socket, find_data_dir, socket_target
from control_plane.settings.values import read_server_address

CALL_SECONDS = 30.0
"""How long a call may take that waits only for the disk of the server."""

_GRACE_SECONDS, _GRACE = 5.0, 0.01
"""How much longer than the given timeout an answer may take: a fixed time for the disk and the way
back, and a fraction of the timeout, because the server allows for rounding up by gRPC."""

_COMMAND = re.compile(r"'(c2c [^']+)'")
"""How the server names a command; the server does not know by which options the user reaches it."""

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class _CannotNow(Away):
    """A server answers there, but did not do what it was asked to."""


class Client(NamedTuple):
    """An open connection.

    Attributes:
        channel: the channel for the stubs of the API.
        where: the socket or address, for sentences.
        look: connects and hangs up; raises Failed if no server answers, or something else is wrong.
        doubt: why the server may not know a command.
        until: the time by which every call that only reads must be over.
    """

    channel: grpc.Channel
    where: str
    look: Callable[[], None]
    doubt: str
    until: float = math.inf

    def waiting(self, timeout: timedelta) -> Client:
        """Return the same connection, whose reads end with this timeout if the server hangs."""
        return self._replace(until=time.monotonic() + seconds_of(timeout))

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request
    ) -> _Response:
        """Call a method of the API that changes nothing.

        Raises:
            Away: the server is not there now.
            Failed: it refused, could not do it, or did not answer in time.
        """
        seconds = max(0.0, min(CALL_SECONDS, self.until - time.monotonic()))
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            # What a blocking call raises is both an error and a call, which the stubs of grpc do
            # not say.
            raise self._failure(cast("grpc.Call", error), seconds) from error

    def change(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        shown_by: str | None,
        seconds: float = CALL_SECONDS,
    ) -> _Response:
        """Call a method of the API that changes something.

        Args:
            method: the one to call.
            request: what it is asked.
            shown_by: the command that shows whether the change was made; None if what is made is
                useless without the answer, and so can be made again.
            seconds: how long it may take.

        Raises:
            Away: the server is not there now, and nothing was sent.
            Failed: it refused, could not do it, or it is unknown whether the change was made.
            KeyboardInterrupt: the user interrupted the wait; a warning about the change was
                printed.
        """
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)
            failure = self._failure(call, seconds)
            if is_decided(call):
                raise failure from error
            raise Failed(self._doubtful(call, failure, shown_by)) from error
        except KeyboardInterrupt:
            warn(f"Interrupted: {_advice(shown_by)}")
            raise

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[_Request, _Response],
        request: _Request,
        opened: Callable[[], None],
    ) -> Iterator[_Response]:
        """Yield the messages of a streaming method, until it ends or the caller wants no more.

        Args:
            method: a method that says by its initial metadata that it listens.
            request: what it is asked.
            opened: called once it listens, so that nothing is missed from then on.

        Raises:
            Away: the server is not there, or no longer.
            Failed: it refused, or broke off.
        """
        call = method(request)
        try:
            call.initial_metadata()
            if call.is_active():
                opened()
            yield from call
        except grpc.RpcError as error:
            raise self._failure(cast("grpc.Call", error), 0) from error
        finally:
            call.cancel()

    def _failure(self, call: grpc.Call, seconds: float) -> Failed:
        match call.code():
            case grpc.StatusCode.UNAVAILABLE:
                return self._away(call)
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return Away(f"no answer from {self.where} within {seconds:.2g}s")
            case _:
                return Failed(self._sentence(call))

    def _doubtful(self, call: grpc.Call, failure: Failed, shown_by: str | None) -> str:
        """Return what happened, and how to find out whether the change was made."""
        happened, now = str(failure), ""
        if call.code() is grpc.StatusCode.UNAVAILABLE:
            happened = f"the connection to {self.where} broke before the answer"
            now = f" (now {failure})" if not isinstance(failure, _CannotNow) else ""
        return f"{happened}: {_advice(shown_by)}{now}"

    def _away(self, call: grpc.Call) -> Failed:
        if not is_said_by_the_server(call):
            try:
                self.look()
            except Failed as error:
                return error
        if is_silent(call):
            return Away(
                f"the server at {self.where} takes connections and does not answer: it hangs, or "
                "somebody has stopped it (kill -CONT lets it go on)"
            )
        return _CannotNow(f"the server at {self.where} cannot do this now: {call.details() or ''}")

    def _sentence(self, call: grpc.Call) -> str:
        details = call.details() or "the server gave no reason"
        match call.code():
            case code if code in REFUSED:
                return _COMMAND.sub(lambda found: f"'{pasted(found[1])}'", details)
            case grpc.StatusCode.UNIMPLEMENTED:
                return f"the server at {self.where} does not know this command: {self.doubt}"
            case grpc.StatusCode.INTERNAL:
                return f"the server at {self.where} failed, and its log says why"
            case code:
                return f"the server at {self.where} answered {code.name}: {details}"


def seconds_of(timeout: timedelta) -> float:
    """Return how long a call may take that waits for this long."""
    return timeout.total_seconds() * (1 + _GRACE) + _GRACE_SECONDS


def _advice(shown_by: str | None) -> str:
    if shown_by is None:
        return "what was made, if anything, is lost, so run it again"
    return f"the change may have been made or not, so look with '{shown_by}' before you repeat it"


@contextmanager
def connect(seconds: float | None = None) -> Iterator[Client]:
    """Connect to the server that the options of the running command name.

    Args:
        seconds: how long each step may take; None for as long as it usually may.

    Raises:
        Failed: no server answers there, or it is not the right one.
        ConfigurationError: the data directory cannot be determined.
        click.UsageError: options for one way to connect are missing or belong to another.
    """
    said = connection()
    client = _by_socket(said) if said.server is None else _by_address(said.server, said, seconds)
    with client.channel:
        yield client


def _by_socket(said: Connection) -> Client:
    path = admin_socket(find_data_dir(said.data_dir, said.config, os.environ))

    def look() -> None:
        try_socket(path)

    look()
    channel = grpc.insecure_channel(socket_target(path), CHANNEL_OPTIONS)
    return Client(channel, str(path), look, "it may be older")


def _by_address(server: str, said: Connection, seconds: float | None) -> Client:
    missing = [f"--{name}" for name in ("cert", "key", "ca") if getattr(said, name) is None]
    if missing:
        raise click.UsageError(f"--server needs {' and '.join(missing)} as well")
    try:
        address = read_server_address(server)
    except InvalidArgument as error:
        raise click.UsageError(f"--server {error}") from None
    credentials = Credentials(*(cast("Path", each) for each in (said.cert, said.key, said.ca)))

    def look() -> None:
        try_tls(address, credentials, seconds)

    look()
    channel = grpc.secure_channel(
        str(address),
        grpc.ssl_channel_credentials(
            root_certificates=credentials.ca.read_bytes(),
            private_key=credentials.key.read_bytes(),
            certificate_chain=credentials.cert.read_bytes(),
        ),
        (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME)),
    )
    doubt = "that is no operator's port (see --admin-address), or the server is older"
    return Client(channel, str(address), look, doubt)
