"""The bootstrap that a sidecar writes, as text and as Envoy reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from control_plane.envoy import bootstrap
from tests.envoy.harness import envoy_binary

HOSTILE = [
    'quo"te',
    "new\nline: {admin: {}}",
    "${xds_port} $xds_port",
    "colon: # comment",
    "back\\slash \\n \\U0001F600",
    "- [list, {of: things}] & *anchor !!tag %",
    "umlaut ä, \U0001f600, \u2028 and \x85 and \x7f",
]


def _render(
    node_id: str = "instance-1",
    *,
    tls: bootstrap.XdsIdentity | None = None,
    ads: bootstrap.AdsVariant = bootstrap.AdsVariant.DELTA,
    xds_address: str = "127.0.0.1",
) -> str:
    return bootstrap.render(
        node_id,
        xds_address=xds_address,
        xds_port=18000,
        admin_socket=Path("/run/admin.sock"),
        tls=tls,
        ads=ads,
    )


def _validate(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    path = directory / "bootstrap.yaml"
    path.write_text(text, encoding="utf-8")
    return subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def _identity(directory: Path) -> bootstrap.XdsIdentity:
    files = bootstrap.XdsIdentity(
        directory / "identity.json", directory / "trust.json", "spiffe://internal/control-plane"
    )
    files.identity_file.write_text(bootstrap.identity_file("chain", "key"))
    files.trust_file.write_text(bootstrap.trust_file("ca"))
    return files


@pytest.mark.parametrize("variant", bootstrap.AdsVariant)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "control-plane.example"])
def test_envoy_accepts_it(tmp_path: Path, variant: bootstrap.AdsVariant, address: str) -> None:
    """Envoy takes the bootstrap, with mTLS and without, to an address or to a name."""
    for tls in (None, _identity(tmp_path)):
        result = _validate(tmp_path, _render(tls=tls, ads=variant, xds_address=address))
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_a_value_cannot_change_the_bootstrap(tmp_path: Path, value: str) -> None:
    """Whatever a node ID contains, it adds no line, and Envoy still takes the bootstrap."""
    text = _render(value)

    assert len(text.splitlines()) == len(_render().splitlines())
    result = _validate(tmp_path, text)
    assert result.returncode == 0, result.stderr


def test_envoy_reads_a_value_as_it_was_written(tmp_path: Path) -> None:
    """A path with odd characters reaches Envoy as that very path: its complaint quotes it."""
    odd = tmp_path / HOSTILE[0] / HOSTILE[-1]
    files = bootstrap.XdsIdentity(odd, odd, "spiffe://internal/control-plane")

    result = _validate(tmp_path, _render(tls=files))

    assert result.returncode != 0
    assert f"'{odd}' does not exist" in result.stderr


def test_what_an_operator_would_look_for() -> None:
    """Delta ADS, the node sent once, a socket for its owner, a new connection for each stream."""
    lines = [line.strip() for line in _render().splitlines()]

    for expected in (
        'id: "instance-1"',
        'api_type: "DELTA_GRPC"',
        "set_node_on_first_message_only: true",
        'path: "/run/admin.sock"',
        f"mode: {0o600}",
        "max_requests_per_connection: 1",
    ):
        assert expected in lines
    assert not any("transport_socket" in line for line in lines)


def test_identity_and_trust_are_secrets_in_files() -> None:
    """Each file is a discovery response with one secret, whose name the bootstrap asks for."""
    (identity,) = json.loads(bootstrap.identity_file("chain", "key"))["resources"]
    (trust,) = json.loads(bootstrap.trust_file("ca"))["resources"]

    assert identity["name"] == "identity"
    assert identity["tls_certificate"] == {
        "certificate_chain": {"inline_string": "chain"},
        "private_key": {"inline_string": "key"},
    }
    assert trust["name"] == "trust"
    assert trust["validation_context"] == {"trusted_ca": {"inline_string": "ca"}}
