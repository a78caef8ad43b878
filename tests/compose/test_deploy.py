"""What README and docs/deploy.md give people to copy does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.conftest import STACKS
from tests.compose.stack import ROOT, Stack, until

IMAGES = {
    "c2c-control-plane": "c2c-test/control-plane",
    "c2c-sidecar": "c2c-test/sidecar",
    # As process 1 it would not hear that it is told to end.
    "shop": "c2c-test/app\n    init: true",
}
URL = "https://shop.apps.internal:61443"


@pytest.fixture(params=["README.md", "docs/deploy.md"])
def copied(request: pytest.FixtureRequest, built: Stack, tmp_path: Path) -> Iterator[Stack]:
    """Return a stack of the compose file in a document, with the images under test."""
    text = (ROOT / request.param).read_text()
    found = re.search(r"<!-- tests/compose runs this -->\n```yaml\n(.*?)```", text, re.DOTALL)
    assert found
    file = tmp_path / "docker-compose.yml"
    file.write_text(re.sub(r"image: (\S+)", lambda each: f"image: {IMAGES[each[1]]}", found[1]))
    made = Stack(f"{built.project}-copied", built.command, (file,))
    request.config.stash[STACKS].append(made)
    try:
        yield made
    finally:
        made.down()


def test_an_app_of_ones_own_is_served(copied: Stack) -> None:
    """Step by step as in the document; and a second start needs no token."""
    copied.compose("up", "--detach", "control-plane")
    copied.until_answered()
    copied.c2c("create-app", "shop")
    copied.c2c("map-route", "shop", "apps.internal", "--hostname", "shop")
    copied.c2c("add-network-policy", "shop", "shop", "--protocol", "tcp", "--port", "61443")
    [ticket] = copied.c2c_json("join-token", "shop")
    copied.compose(
        "up",
        "--detach",
        variables={"SHOP_TOKEN": ticket["token"], "C2C_FINGERPRINT": ticket["fingerprint"]},
    )
    assert _greeting(copied) == "hello from app"
    before = copied.instances()

    copied.compose("up", "--detach", "--force-recreate", "shop", "shop-sidecar")

    assert _greeting(copied) == "hello from app"
    assert set(copied.instances().values()) == set(before.values())


def _greeting(stack: Stack) -> str:
    """Return what the app says to itself over HTTPS, once it can."""
    command = ("curl", "--silent", "--fail", URL)
    answer = until(lambda: stack.container("shop").exec(*command, check=False), what=f"{URL} works")
    return answer.partition(",")[0]
