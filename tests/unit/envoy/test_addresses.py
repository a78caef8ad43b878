"""In which order addresses are in a message, and what is remembered of that."""

from __future__ import annotations

from control_plane.envoy.addresses import in_order


def test_addresses_are_in_the_order_of_their_numbers() -> None:
    """The same sources give the same bytes, whatever order and repetitions they come in."""
    addresses = ["10.0.0.10", "2001:db8::1", "10.0.0.2", "10.0.0.10"]

    assert in_order(addresses) == in_order(reversed(addresses))
    assert in_order(addresses) == ("10.0.0.2", "10.0.0.10", "2001:db8::1")


def test_an_address_is_written_in_one_way() -> None:
    """Somebody may have written it differently, and Envoy compares text."""
    assert in_order(["2001:DB8:0::1", "2001:db8::1"]) == ("2001:db8::1",)


def test_what_is_remembered_of_addresses_has_no_text_of_its_own() -> None:
    """Each instance that comes or goes makes another set, and a set may have thousands."""
    addresses = [f"10.0.0.{last}" for last in range(200)]
    ordered = in_order(addresses[::-1])

    assert all(each is given for each, given in zip(ordered, addresses, strict=True))
