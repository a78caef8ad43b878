"""Versions are hashes of content, and snapshots collect resources by name."""

from __future__ import annotations

import pytest

from control_plane.xds.resource import Resource, version_of, version_of_all
from control_plane.xds.resource_type import CLUSTER, SECRET
from control_plane.xds.snapshot import EMPTY, Snapshot, TypeSnapshot
from tests.unit.xds.notation import constraints, content, resource, snapshot, url_of, version
from tests.unit.xds.peers import DeltaPeer


def test_version_is_a_property_of_the_content() -> None:
    """A2, A3: the same bytes have the same version on any stream and replica, after a restart."""
    assert Resource.of(SECRET, "s", b"body").version == Resource.of(SECRET, "t", b"body").version
    assert Resource.of(SECRET, "s", b"body").version == "230d8358dc8e8890"
    assert Resource.of(SECRET, "s", b"body").version != Resource.of(SECRET, "s", b"bodY").version


def test_version_of_a_type_changes_with_each_of_its_resources() -> None:
    """A2: it is the same whatever the order, and another one after any change."""
    versions = [
        content("CDS", text).version
        for text in ("", "a@1", "a@2", "b@1", "a@1 b@1", "a@1 b@2", "a@2 b@1")
    ]
    assert len(set(versions)) == len(versions)
    assert content("CDS", "a@1 b@1").version == content("CDS", "b@1 a@1").version
    same = version("a@1")
    assert version_of_all({"a": same}) != version_of_all({"b": same})


def test_two_streams_are_told_the_same_version() -> None:
    """A2: the version is no property of the stream."""
    told = []
    for _ in range(2):
        peer = DeltaPeer(CDS="c@1")
        peer.ask("CDS")
        told.append(peer.stream.machines[CLUSTER].exchange.has("c"))
        peer.ack("CDS")
        told.append(peer.stream.machines[CLUSTER].exchange.has("c"))
    assert told == [None, resource("CDS", "c@1").version] * 2


def test_body_is_never_shown() -> None:
    """W1: a secret holds a private key, which no log and no error may repeat."""
    secret = Resource.of(SECRET, "s", b"-----BEGIN PRIVATE KEY-----")
    assert "PRIVATE" not in repr(secret)
    assert "PRIVATE" not in repr(TypeSnapshot.of([secret]))


def test_no_resource_is_named_like_the_wildcard() -> None:
    """W3: ``*`` asks for everything, so nobody could ask for it, and delta would never send it."""
    with pytest.raises(ValueError, match=r"no resource can have the name '\*': it stands for all"):
        TypeSnapshot.of([Resource.of(SECRET, "s", b""), Resource.of(SECRET, "*", b"")])


def test_name_may_not_occur_twice() -> None:
    """R1: no response may have a name twice, so no snapshot may."""
    with pytest.raises(ValueError, match="resource name occurs twice in a snapshot: 'c'"):
        content("CDS", "c@1 c@2")


def test_alias_may_not_mean_two_resources() -> None:
    """W13: which of them a client means could not be told."""
    with pytest.raises(ValueError, match="alias of two resources in a snapshot: 'x'"):
        content("EDS", "a@1|x b@1|x")
    assert content("EDS", "a@1|x|x").aliases.keys() == {"x"}


def test_resource_is_found_by_name_and_by_alias() -> None:
    """W13: a name goes before an alias that is spelt like it."""
    kind = content("EDS", "a@1|x|b b@1")
    assert kind.find("a") == kind.find("x") == kind.resources["a"]
    assert kind.find("b") == kind.resources["b"]
    assert kind.find("c") is None


def test_node_has_nothing_of_a_type_that_nobody_set() -> None:
    """R2: types do not mix, and an unknown one is empty."""
    before = Snapshot({CLUSTER: content("CDS", "c@1")})
    after = Snapshot({**before.types, SECRET: content("SDS", "s@1")})
    assert before.of_type(SECRET) is EMPTY
    assert after.of_type(SECRET).resources.keys() == {"s"}
    assert after.of_type(CLUSTER) is before.of_type(CLUSTER)


def test_only_types_with_other_content_have_changed() -> None:
    """What has the same content again wakes nobody; what came or went does (A6)."""
    before = snapshot(CDS="c@1", EDS="e@1", SDS="s@1")
    after = snapshot(CDS="c@1", EDS="e@2", LDS="l@1")

    assert after.changed_since(before) == {url_of("EDS"), url_of("SDS"), url_of("LDS")}
    assert before.changed_since(snapshot(CDS="c@1", EDS="e@1", SDS="s@1", LDS="")) == set()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (content("SDS", "s@1"), content("SDS", "s@1 ?t")),
        (content("SDS", "s@1"), content("SDS", "s@1 =t@1")),
        (content("SDS", "s@1 =t@1"), content("SDS", "s@1 =t@2")),
        (content("SDS", "s@1"), content("SDS", "s@1 -t(yours)")),
        (content("SDS", "s@1"), TypeSnapshot.of([Resource.of(SECRET, "s", b"s@1", ["t"])])),
        (content("SDS", "s@1"), TypeSnapshot.of([Resource.of(SECRET, "s", b"s@1", ttl=9.0)])),
    ],
)
def test_a_type_may_change_though_its_version_does_not(
    before: TypeSnapshot, after: TypeSnapshot
) -> None:
    """W13, W16, T4, E1: what is being made, names that mean something else, and TTLs count too."""
    assert before.version == after.version
    assert Snapshot({SECRET: after}).changed_since(Snapshot({SECRET: before})) == {SECRET}
    assert Snapshot({SECRET: before}).changed_since(Snapshot({SECRET: after})) == {SECRET}


def test_what_did_not_change_is_the_very_same_as_before() -> None:
    """Streams tell by identity what they compared before; what is new and what is gone is kept."""
    before = snapshot(CDS="c@1", EDS="e@1", SDS="s@1")
    after = snapshot(CDS="c@1", EDS="e@2", LDS="l@1")
    kept = after.keeping(before, after.changed_since(before))

    assert kept == after
    assert kept.of_type(url_of("CDS")) is before.of_type(url_of("CDS"))
    assert kept.of_type(url_of("EDS")) is after.of_type(url_of("EDS"))
    assert kept.types.keys() == {url_of("CDS"), url_of("EDS"), url_of("LDS")}
    same = snapshot(CDS="c@1", EDS="e@1", SDS="s@1")
    assert same.keeping(before, same.changed_since(before)) is before


def test_packed_content_takes_little_memory_and_is_the_same() -> None:
    """What is kept compressed comes out as it went in, with the version of its own bytes."""
    body = b"filter chain " * 1000

    packed, same = (Resource.of(CLUSTER, "a", body, pack=True) for _ in range(2))

    assert packed.body == Resource.of(CLUSTER, "a", body).body == body
    assert packed == same
    assert packed.octets == len(body)
    assert packed.version == version_of(body)
    assert len(packed._content) < len(body) / 10


def test_version_of_a_variant_is_that_of_its_constraints_too() -> None:
    """E3, A2: they are "part of the cache key", so with others it is another one."""
    prod, test, everybody = (resource("CDS", f"c@1{each}") for each in ("{e=p}", "{e=t}", ""))
    assert len({prod.version, test.version, everybody.version}) == 3
    assert everybody.version == version("c@1")
    assert prod == resource("CDS", "c@1{e=p}")


def test_variants_are_collected_by_name() -> None:
    """E3: they are in no other map of resources, but in their collection and in the version."""
    member = "xdstp://a/T/x/1"
    snapshot = content("CDS", f"c@1 {member}@1{{e=p}} {member}@2{{e=t}}")
    assert snapshot.resources.keys() == {"c"}
    assert {name: len(each) for name, each in snapshot.variants.items()} == {member: 2}
    assert snapshot.collections == {"xdstp://a/T/x/*": {member}}
    others = ("c@1", f"c@1 {member}@1{{e=p}}", f"c@1 {member}@1{{e=p}} {member}@3{{e=t}}")
    assert snapshot.version not in {content("CDS", each).version for each in others}
    assert snapshot == content("CDS", f"{member}@1{{e=p}} {member}@2{{e=t}} c@1")


def test_one_client_sees_one_variant() -> None:
    """E3: it is like any other resource then, with its TTL, and the rest stays as it is."""
    lasting = Resource.of(CLUSTER, "d", b"d@1", ttl=5.0, constraints=constraints("e=p"))
    whole = TypeSnapshot.of([resource("CDS", "c@1"), lasting], pending=["x"])
    seen = whole.showing([lasting])
    assert seen == TypeSnapshot(
        {"c": resource("CDS", "c@1"), "d": lasting},
        frozenset({"x"}),
        {},
        seen.version,
        {},
        {"d": 5.0},
        {},
        {},
        {},
    )
    assert seen.version == TypeSnapshot.of(seen.resources.values()).version
    assert whole.showing([]).resources.keys() == {"c"}
    assert whole.showing([lasting]) is seen is seen.showing([])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "c@1{e=p/e=t} c@2{e=q/e=t}",
            r"variants of the resource 'c' are ambiguous: .*e=p or e=t.* and .* both match 'e=t'",
        ),
        ("c@1{e=p} c@2{v=1}", "'c' are ambiguous: 'e=p' and 'v=1' are not of the same keys"),
        ("c@1{e=p} c@2", "resource with and without constraints in a snapshot: 'c'"),
        ("c@1{e=p} -c(why)", "resource is there and denied in a snapshot: 'c'"),
        ("*@1{e=p}", "no resource can have the name"),
        ("c@1|alias{e=p}", "a resource with aliases has no variants: 'c'"),
    ],
    ids=["overlap", "keys", "both", "denied", "wildcard", "alias"],
)
def test_variants_of_which_nobody_could_tell_whose_they_are_are_refused(
    text: str, sentence: str
) -> None:
    """E3: "Control planes must not accept a set of resources that violates this requirement"."""
    with pytest.raises(ValueError, match=sentence):
        content("CDS", text)


def test_a_resource_without_a_name_is_refused() -> None:
    """No client could ask for it."""
    with pytest.raises(ValueError, match="a resource has a name, by which clients ask for it"):
        Resource.of(CLUSTER, "", b"")
