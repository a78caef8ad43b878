"""Cross-signing: who trusts one of two CAs verifies what the other signs, to the last check."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca import (
    Authority,
    C2CRequest,
    KeyPair,
    Profile,
    create_authority,
    issue,
    load_authority,
    new_key_pair,
)
from control_plane.ca.cross_signing import cross_sign, objection
from control_plane.errors import IssuanceError
from tests.needs import need_command
from tests.unit.ca.forge import CA, NOW, Extensions, Maker, made

YEAR = timedelta(days=365)


def embedded(name: str, lifetime: timedelta = YEAR, key: KeyPair | None = None) -> Authority:
    """Return a CA as the control plane makes it."""
    return create_authority(name, now=NOW, lifetime=lifetime, key=key or new_key_pair(), serial=1)


def of(*path: Maker) -> Authority:
    """Return the CA whose path, up to the root, these are."""
    return load_authority(b"".join(each.pem for each in path), path[0].key.private_pem(), now=NOW)


def with_ids(key: KeyPair) -> Extensions:
    """Return the extensions of a CA that has a key identifier."""
    return [*CA, (x509.SubjectKeyIdentifier.from_public_key(key.public.key), False)]


def intermediate(name: str) -> Authority:
    """Return an operator's CA with another one between it and its root."""
    root = made(f"{name} root")
    middle = made(f"{name} middle", by=root)
    key = new_key_pair()
    return of(made(name, by=middle, key=key, extensions=with_ids(key)), middle, root)


def crossed(subject: Authority, signer: Authority) -> Authority:
    """Return a CA that sends its root as another signed it."""
    assert objection(subject, signer, NOW) == ""
    cross = cross_sign(subject, signer, now=NOW, serial=5)
    return replace(subject, detour=(cross, *signer.below_root), other_roots=signer.roots)


def verified(
    directory: Path, authority: Authority, root: x509.Certificate, *, strict: bool = True
) -> str:
    """Return what OpenSSL says to a leaf of one CA, for who trusts this root only."""
    request = C2CRequest("guid", "app", "o", "s", ("app-b.apps.internal",), 0, "10.255.1.7")
    leaf = issue(authority, Profile(), request, key=new_key_pair, now=NOW, serial=9)
    chain, trusted = directory / "chain.pem", directory / "root.pem"
    chain.write_bytes(leaf.certificate_chain_pem)
    trusted.write_bytes(root.public_bytes(Encoding.PEM))
    command = [
        need_command("openssl", "openssl"),
        "verify",
        *(["-x509_strict"] if strict else []),
        "-attime",
        str(int(NOW.timestamp())),
    ]
    command += ["-verify_hostname", "app-b.apps.internal", "-purpose", "sslserver"]
    command += ["-no-CAfile", "-no-CApath", "-no-CAstore", "-CAfile", str(trusted)]
    command += ["-untrusted", str(chain), str(chain)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return "OK" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("root", [0, 1], ids=["own-root", "other-root"])
def test_a_leaf_leads_to_either_root(tmp_path: Path, root: int) -> None:
    """OpenSSL verifies a leaf of the new CA for who trusts only the new, and only the old."""
    both = crossed(embedded("new"), embedded("old"))

    assert verified(tmp_path, both, (*both.roots, *both.other_roots)[root]) == "OK"


def test_without_the_detour_the_other_root_leads_nowhere(tmp_path: Path) -> None:
    """The check above can fail: a CA that nobody cross-signed is a stranger."""
    assert "self-signed" in verified(tmp_path, embedded("new"), embedded("old").certificate)


@pytest.mark.parametrize(
    "names", [("old", "new"), ("new", "old")], ids=["to-operators-ca", "from-operators-ca"]
)
@pytest.mark.parametrize("root", [0, 1], ids=["own-root", "other-root"])
def test_intermediates_lead_to_either_root(
    tmp_path: Path, names: tuple[str, str], root: int
) -> None:
    """Also where one of the two is an intermediate, whose root is what is cross-signed."""
    made_of = {"old": embedded, "new": intermediate}
    signer, subject = (made_of[name](name) for name in names)
    both = crossed(subject, signer)
    root_of_it = (*both.roots, *both.other_roots)[root]

    assert len({each.subject for each in both.sent}) == len(both.sent)
    # Strictly, a CA says more than the makers of these tests put in.
    assert verified(tmp_path, both, root_of_it, strict=False) == "OK"


def test_what_the_cross_certificate_says() -> None:
    """It has name, key and key identifier of the root, and is good for as long as both CAs are."""
    old, new = embedded("old", timedelta(days=30)), embedded("new")
    cross = cross_sign(new, old, now=NOW, serial=5)
    constraints = cross.extensions.get_extension_for_class(x509.BasicConstraints)
    identifier = cross.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)

    assert (cross.subject, cross.issuer) == (new.name, old.name)
    assert cross.public_key() == new.certificate.public_key()
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert identifier.value.digest == new.key_identifier.key_identifier
    assert cross.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert cross.not_valid_after_utc == old.not_after
    assert cross.serial_number == 5


def test_a_root_without_a_key_identifier_keeps_it_so() -> None:
    """What the root does not say, its cross certificate does not say either."""
    cross = cross_sign(of(made("bare")), embedded("old"), now=NOW, serial=5)

    with pytest.raises(x509.ExtensionNotFound):
        cross.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_a_bad_serial() -> None:
    """A number that no certificate can have makes none."""
    with pytest.raises(IssuanceError, match="serial must be positive"):
        cross_sign(embedded("new"), embedded("old"), now=NOW, serial=0)


@pytest.mark.parametrize(
    ("now", "told"),
    [(NOW + YEAR, False), (NOW - YEAR, False), (NOW + YEAR - timedelta(seconds=1), True)],
    ids=["ended", "not-yet", "just"],
)
def test_a_ca_that_is_not_valid_cross_signs_nothing(now: datetime, *, told: bool) -> None:
    """What it signed would be worth nothing to anybody."""
    problem = objection(embedded("new"), embedded("old"), now)

    assert problem == ("" if told else "CA 'CN=old' is not valid now")


def test_a_policy_that_is_wanted_with_another_ca_between() -> None:
    """A CA that may sign leaves without a policy need not be one that may sign them indirectly."""

    def signer(required: int) -> Authority:
        root = made("root")
        wanted = (x509.PolicyConstraints(required, None), True)
        return of(made("old", by=root, extensions=[*CA, wanted]), root)

    problem = (
        "CA 'CN=old' wants a certificate policy of what is below it, and leaves have none (policy "
        "constraints)"
    )
    assert objection(embedded("new"), signer(2), NOW) == problem
    assert objection(embedded("new"), signer(3), NOW) == ""
    assert objection(intermediate("new"), signer(4), NOW) == problem
    assert objection(intermediate("new"), signer(5), NOW) == ""


def test_a_root_that_is_named_by_its_serial_number(tmp_path: Path) -> None:
    """What names its issuer so is below no other certificate of it, whatever has its key."""
    root = made("new root")
    serial = root.certificate.serial_number
    names = [x509.DirectoryName(root.certificate.subject)]
    middle = made("new middle", by=root, extensions=[*CA, (key_of(root, names, serial), False)])
    new, old = of(made("new", by=middle), middle, root), embedded("old")
    cross = cross_sign(new, old, now=NOW, serial=serial + 1)
    both = replace(new, detour=(cross,), other_roots=old.roots)

    assert verified(tmp_path, both, root.certificate, strict=False) == "OK"
    assert verified(tmp_path, both, old.certificate, strict=False) != "OK"
    assert objection(new, old, NOW) == (
        "CA 'CN=new middle' names its root by a serial number, and a cross-signed one has another "
        "(authority key identifier)"
    )
    by_key = made("new middle", by=root, extensions=[*CA, (key_of(root), False)])
    assert objection(of(made("new", by=by_key), by_key, root), old, NOW) == ""


def key_of(
    issuer: Maker, names: list[x509.DirectoryName] | None = None, serial: int | None = None
) -> x509.AuthorityKeyIdentifier:
    """Return what names an issuer by its key, and perhaps by its certificate too."""
    key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public.key).key_identifier
    return x509.AuthorityKeyIdentifier(key, names, serial)


def test_path_lengths() -> None:
    """Each certificate above the cross certificate has to allow what comes below it."""

    def limited(name: str, path_length: int, by: Maker | None = None) -> Maker:
        constraints = x509.BasicConstraints(ca=True, path_length=path_length)
        return made(name, by=by, extensions=[(constraints, True)])

    root = limited("root", 1)
    assert objection(embedded("new"), of(limited("old", 1)), NOW) == ""
    assert objection(embedded("new"), of(limited("old", 0)), NOW) == (
        "CA 'CN=old' allows 0 CAs below it and would have 1 (path length)"
    )
    assert objection(embedded("new"), of(made("old", by=root), root), NOW) == (
        "CA 'CN=root' allows 1 CAs below it and would have 2 (path length)"
    )
    assert objection(intermediate("new"), embedded("old"), NOW) == ""
    assert objection(intermediate("new"), of(limited("old", 2)), NOW) == (
        "CA 'CN=old' allows 2 CAs below it and would have 3 (path length)"
    )
