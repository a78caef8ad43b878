"""What is shown of a Secret."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import any_pb2

from control_plane.server.redaction import REDACTED, redacted

HIDDEN = "not for the eyes of operators"


def source(text: str) -> dict[str, str]:
    """Return text as Envoy has it in a message."""
    return {"inline_string": text}


def test_whatever_is_secret_in_any_kind_of_secret_is_not_shown() -> None:
    """Keys, their passwords, tickets' keys and tokens are redacted; certificates stay."""
    shown = [
        secret_pb2.Secret.FromString(redacted(secret_pb2.Secret(**fields).SerializeToString()))
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

    shown = secret_pb2.Secret.FromString(redacted(pair.SerializeToString()))

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

    body = redacted(pair.SerializeToString())
    shown = secret_pb2.Secret.FromString(body).tls_certificate

    assert HIDDEN.encode() not in body
    assert shown.pkcs12.inline_string == REDACTED
    assert shown.private_key_provider.provider_name == "hsm"
    assert shown.private_key_provider.typed_config.type_url == told.type_url
