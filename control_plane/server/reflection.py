"""gRPC reflection: what ``grpcurl list`` and ``describe`` show, and how grpcurl prints an Any.

The rule of this module: every type that a message of ours may carry in an Any can be asked for, and
our own files come with their comments, which are the documentation of the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from control_plane.server.descriptors import ImportingPool, found, import_messages

_OUR_PACKAGE = "control_plane.api.v1"
_OUR_FILES = "c2c.v1.binpb"

_V1 = "grpc.reflection.v1.ServerReflection"
"""The same as v1alpha, byte for byte, under another name; newer tools ask for this one first."""


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Let clients of a server ask what it serves.

    Args:
        services: the full names of its services; reflection adds itself.
    """
    import_messages(_OUR_PACKAGE)
    names = [*services, reflection.SERVICE_NAME]
    pool = cast("descriptor_pool.DescriptorPool", _Pool(_documented_files()))
    reflection.enable_server_reflection(names, server, pool)
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names, pool).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


def _documented_files() -> Mapping[str, descriptor_pb2.FileDescriptorProto]:
    content = resources.files(_OUR_PACKAGE).joinpath(_OUR_FILES).read_bytes()
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(content).file}


class _File:
    """A file as the reflection servicer reads it, with comments if there are any."""

    def __init__(
        self, file: FileDescriptor, documented: Mapping[str, descriptor_pb2.FileDescriptorProto]
    ) -> None:
        self.name = file.name
        self._file = file
        self._documented = documented

    @property
    def dependencies(self) -> list[_File]:
        return [_File(each, self._documented) for each in self._file.dependencies]

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:
        documented = self._documented.get(self.name)
        if documented is None:
            self._file.CopyToProto(proto)
        else:
            proto.CopyFrom(documented)


class _Pool(ImportingPool):
    """The descriptor pool as the reflection servicer reads it: complete, and with comments."""

    def __init__(self, documented: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> None:
        self._pool = descriptor_pool.Default()
        self._documented = documented

    def FindFileByName(self, name: str) -> _File:
        return _File(self._pool.FindFileByName(name), self._documented)

    def FindFileContainingSymbol(self, symbol: str) -> _File:
        return _File(found(self._file_of, symbol), self._documented)

    def _file_of(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            # The pool does not know methods as symbols of their own, but `grpcurl describe` asks
            # for them.
            service, _, method = symbol.rpartition(".")
            defined = self._pool.FindServiceByName(service)
            if method not in defined.methods_by_name:
                raise
            return defined.file

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:
        return self._pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:
        return self._pool.FindAllExtensions(message)
