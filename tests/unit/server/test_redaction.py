"""What is shown of a Secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.aws.v3 import credential_provider_pb2
from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2
from envoy.extensions.filters.http.basic_auth.v3 import basic_auth_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from xds.type.v3 import typed_struct_pb2

from control_plane.server.redaction import REDACTED, redacted

PREFIX = "type.googleapis.com/"
HIDDEN = "not for the eyes of operators"


def source(text: str) -> dict[str, str]:
    """Return text as Envoy has it in a message."""
    return {"inline_string": text}


PER_ROUTE = basic_auth_pb2.BasicAuthPerRoute(users=source(HIDDEN))


def shown_of(message: Message) -> Any:  # noqa: ANN401 - a message of the same type
    """Return a message as it may be shown."""
    body = redacted(PREFIX + message.DESCRIPTOR.full_name, message.SerializeToString())
    assert body is not None
    return type(message).FromString(body)


def packed(message: Message) -> any_pb2.Any:
    """Return a message in an Any."""
    found = any_pb2.Any()
    found.Pack(message)
    return found


def test_whatever_is_secret_in_any_kind_of_secret_is_not_shown() -> None:
    """Keys, their passwords, tickets' keys and tokens are redacted; certificates stay."""
    shown = [
        shown_of(secret_pb2.Secret(**fields))
        for fields in (
            {
                "name": "pair",
                "tls_certificate": {
                    "certificate_chain": source("a chain"),
                    "private_key": source(HIDDEN),
                    "password": source(HIDDEN),
                },
            },
            {"name": "tickets", "session_ticket_keys": {"keys": [source(HIDDEN), source(HIDDEN)]}},
            {
                "name": "token",
                "generic_secret": {"secret": source(HIDDEN), "secrets": {"a": source(HIDDEN)}},
            },
            {"name": "roots", "validation_context": {"trusted_ca": source("roots")}},
        )
    ]
    pair, tickets, token, roots = shown

    assert HIDDEN.encode() not in b"".join(each.SerializeToString() for each in shown)
    assert [each.name for each in shown] == ["pair", "tickets", "token", "roots"]
    assert pair.tls_certificate.certificate_chain.inline_string == "a chain"
    assert pair.tls_certificate.private_key.inline_string == REDACTED
    assert [each.inline_string for each in tickets.session_ticket_keys.keys] == [REDACTED] * 2
    assert token.generic_secret.secret.inline_string == REDACTED
    assert token.generic_secret.secrets["a"].inline_string == REDACTED
    assert roots.validation_context.trusted_ca.inline_string == "roots"


def test_a_key_without_a_password_gets_none() -> None:
    """What was not there is not made up by the redaction."""
    pair = secret_pb2.Secret(name="pair", tls_certificate={"private_key": source(HIDDEN)})

    shown = shown_of(pair)

    assert not shown.tls_certificate.HasField("password")


def test_keys_in_other_places_are_not_shown_either() -> None:
    """A PKCS #12 archive has the key too, and so may what a private key provider is told."""
    told = any_pb2.Any(type_url="type.googleapis.com/a.Provider", value=HIDDEN.encode())
    pair = secret_pb2.Secret(
        tls_certificate={
            "pkcs12": {"inline_bytes": HIDDEN.encode()},
            "private_key_provider": {"provider_name": "hsm", "typed_config": told},
        }
    )

    shown = shown_of(pair).tls_certificate

    assert HIDDEN.encode() not in shown.SerializeToString()
    assert shown.pkcs12.inline_string == REDACTED
    assert shown.private_key_provider.provider_name == "hsm"
    assert shown.private_key_provider.typed_config.type_url == told.type_url


def test_keys_are_found_in_whatever_carries_them() -> None:
    """At any depth, through what is packed: a listener's own certificate, a filter's users."""
    users = basic_auth_pb2.BasicAuth(users=source(HIDDEN), forward_username_header="x-user")
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix="in", http_filters=[{"name": "auth", "typed_config": packed(users)}]
    )
    tls = tls_pb2.DownstreamTlsContext(
        common_tls_context={
            "tls_certificates": [
                {"certificate_chain": source("a chain"), "private_key": source(HIDDEN)}
            ]
        }
    )
    chain = {
        "filters": [{"name": "http", "typed_config": packed(manager)}],
        "transport_socket": {"name": "tls", "typed_config": packed(tls)},
    }

    shown = MessageToDict(
        shown_of(listener_pb2.Listener(name="l", filter_chains=[chain])),
        preserving_proto_field_name=True,
    )

    (chain,) = shown["filter_chains"]
    (pair,) = chain["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
    assert pair == {"certificate_chain": source("a chain"), "private_key": source(REDACTED)}
    (auth,) = chain["filters"][0]["typed_config"]["http_filters"]
    assert auth["typed_config"]["users"] == source(REDACTED)
    assert auth["typed_config"]["forward_username_header"] == "x-user"


@pytest.mark.parametrize(
    ("message", "left"),
    [
        pytest.param(
            credential_provider_pb2.InlineCredentialProvider(
                access_key_id="AKIA", secret_access_key=HIDDEN, session_token=HIDDEN
            ),
            {"access_key_id": "AKIA", "secret_access_key": REDACTED, "session_token": REDACTED},
            id="text",
        ),
        pytest.param(
            api_key_auth_pb2.ApiKeyAuth(
                credentials=[{"key": HIDDEN, "client": "me"}], key_sources=[{"header": "x-key"}]
            ),
            {"credentials": [{}], "key_sources": [{"header": "x-key"}]},
            id="messages",
        ),
        pytest.param(
            ext_authz_pb2.CheckSettings(
                context_extensions={"token": HIDDEN}, disable_request_body_buffering=True
            ),
            {"disable_request_body_buffering": True},
            id="map-of-texts",
        ),
        pytest.param(
            route_components_pb2.VirtualHost(
                name="v",
                typed_per_filter_config={"auth": packed(PER_ROUTE)},
            ),
            {
                "name": "v",
                "typed_per_filter_config": {
                    "auth": {
                        "@type": PREFIX + PER_ROUTE.DESCRIPTOR.full_name,
                        "users": source(REDACTED),
                    }
                },
            },
            id="map-of-messages",
        ),
        pytest.param(
            typed_struct_pb2.TypedStruct(type_url="a.B", value={"private_key": HIDDEN}),
            {"type_url": "a.B"},
            id="typed-struct",
        ),
    ],
)
def test_a_sensitive_field_is_hidden_whatever_it_is(
    message: Message, left: dict[str, object]
) -> None:
    """Text, messages and maps; what stands beside it is shown."""
    assert MessageToDict(shown_of(message), preserving_proto_field_name=True) == left


def test_what_cannot_be_looked_into_is_not_shown() -> None:
    """A type that nobody defines, inside and outside, and what is no message of its type."""
    foreign = any_pb2.Any(type_url=f"{PREFIX}example.v1.Quota", value=HIDDEN.encode())
    broken = any_pb2.Any(type_url=f"{PREFIX}envoy.config.cluster.v3.Cluster", value=b"\xff")
    cluster = cluster_pb2.Cluster(
        name="c", typed_extension_protocol_options={"a": foreign, "b": broken}
    )

    shown = shown_of(cluster)

    assert redacted(foreign.type_url, foreign.value) is None
    assert redacted(broken.type_url, broken.value) is None
    options = shown.typed_extension_protocol_options
    assert [(options[name].type_url, options[name].value) for name in "ab"] == [
        (foreign.type_url, b""),
        (broken.type_url, b""),
    ]


def test_a_type_whose_module_was_not_imported_is_looked_into() -> None:
    """It is imported; nobody has to have made the message in this process."""
    auth = basic_auth_pb2.BasicAuth(users=source(HIDDEN))
    program = (
        "import sys\n"
        "from control_plane.server.redaction import redacted\n"
        "assert not any('basic_auth' in name for name in sys.modules)\n"
        f"print(redacted({PREFIX + auth.DESCRIPTOR.full_name!r}, {auth.SerializeToString()!r}))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert REDACTED in ran.stdout
    assert HIDDEN not in ran.stdout
