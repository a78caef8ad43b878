"""An Envoy that a platform starts itself, by what docs/deploy.md tells people to type."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from control_plane.api.v1 import instance_pb2, instance_pb2_grpc, trust_pb2, trust_pb2_grpc
from control_plane.ca import read_certificate
from control_plane.names import InstanceGuid
from control_plane.settings.retired import CA_FILE
from tests.envoy.harness import envoy_binary, start_envoy, unique_address, until
from tests.needs import need_command
from tests.security.test_ca_rotation import below, own_root
from tests.security.world import control_plane
from tests.sidecar.platform import Platform
from tests.waiting import output

DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy.md"


def scripts() -> tuple[str, str]:
    """Return the commands of the document: those that make an identity, and that renew one."""
    text = DOCUMENT.read_text("utf-8")
    make, renew = re.findall(r"<!-- tests/e2e runs this -->\n```sh\n(.*?)```", text, re.DOTALL)
    return make, renew


async def registered(cf: Platform, address: str) -> instance_pb2.Instance:
    """Register an instance, as a platform does that knows its instances."""
    async with cf.operator() as channel:
        answer = await instance_pb2_grpc.InstanceServiceStub(channel).RegisterInstance(
            instance_pb2.RegisterInstanceRequest(app="shop", address=address)
        )
    return answer.instance


async def typed(
    cf: Platform, instance: instance_pb2.Instance, directory: Path, script: str, xds: str = ""
) -> str:
    """Run the commands in a clone, as if pasted into a shell; return how they failed, if so."""
    programs = (Path(sys.executable).parent, envoy_binary().parent)
    variables = {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "C2C_DATA_DIR": str(cf.settings.data_dir),
        "C2C_XDS_ADDRESS": "127.0.0.1:1",  # which the server does not have
        "APP": instance.app_guid,
        "INSTANCE": instance.guid,
        "ADDRESS": instance.address,
        "DIR": str(directory),
        "XDS": xds or str(cf.running.xds_address),
        "CA_CERT": str(cf.settings.ca_cert or cf.settings.data_dir / CA_FILE),
        "CA_KEY": str(cf.settings.ca_key or cf.settings.data_dir / CA_FILE),
        "TRUST": str(directory / "trust.pem"),
        "OLD": str(directory / "identity"),
        "NEW": str(directory / "identity-2"),
    }
    process = await asyncio.create_subprocess_exec(
        *("sh", "-uc", script),
        env=variables,
        cwd=DOCUMENT.parents[1],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await output(process, "the script")
    return f"{process.returncode}: {out.decode()}" if process.returncode else ""


@pytest.mark.parametrize("is_own", [False, True], ids=["embedded CA", "intermediate of an own PKI"])
async def test_an_envoy_of_a_registered_instance_connects_and_is_renewed(
    tmp_path: Path, *, is_own: bool
) -> None:
    """The commands make all that Envoy needs, with the server's real port, and another identity."""
    make, renew = scripts()
    need_command("openssl", "openssl")
    settings = below(own_root(), tmp_path, "own")[1] if is_own else {}
    async with control_plane(tmp_path, **settings) as cf:
        await cf.create_app("shop")
        instance = await registered(cf, unique_address())
        assert await typed(cf, instance, tmp_path / "envoy", make) == ""
        text = (tmp_path / "envoy" / "envoy.yaml").read_text()
        here = f"{tmp_path}/envoy/admin.sock"

        async def connected() -> bool:
            return [each.connected for each in await cf.instances()] == [True]

        async with start_envoy(lambda socket: text.replace(here, str(socket))) as envoy:
            await until(connected, what="the instance is connected")
            await envoy.wait_live()
            assert await typed(cf, instance, tmp_path / "envoy", renew) == ""
            renewed = read_certificate((tmp_path / "envoy" / "identity-2.pem").read_bytes())

            async def shown() -> bool:
                found = cf.running.core.holdings.identity(InstanceGuid(instance.guid))
                return found is not None and found.serial == renewed.serial

            await until(shown, what="Envoy shows the new identity")


async def test_a_renewal_that_fails_leaves_envoy_its_identity(tmp_path: Path) -> None:
    """Without an answer the commands end before they name files that nobody wrote."""
    make, renew = scripts()
    need_command("openssl", "openssl")
    async with control_plane(tmp_path) as cf:
        await cf.create_app("shop")
        instance = await registered(cf, unique_address())
        assert await typed(cf, instance, tmp_path / "envoy", make) == ""
        before = (tmp_path / "envoy" / "identity.json").read_text()

        failure = await typed(cf, instance, tmp_path / "envoy", renew, xds="127.0.0.1:1")

        assert failure != ""
        assert (tmp_path / "envoy" / "identity.json").read_text() == before


async def test_a_new_shell_knows_all_that_variables_are_made_of() -> None:
    """A shell puts in values before it sets any, so no line uses a variable that it sets itself."""
    section = DOCUMENT.read_text("utf-8").split("\n## Without the sidecar\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    export .*\n)+", section, re.MULTILINE)
    ended = []
    for block in blocks:
        process = await asyncio.create_subprocess_exec("sh", "-uc", block, env={})
        ended.append(await process.wait())

    assert ended == [0, 0]


async def test_a_server_with_a_name_is_found_by_it(tmp_path: Path) -> None:
    """Where Envoys find it is the first of its names, with the port that it has."""
    async with control_plane(tmp_path, server_names=("localhost", "127.0.0.1")) as cf:
        async with cf.operator() as channel:
            stub = trust_pb2_grpc.TrustServiceStub(channel)
            answer = await stub.GetTrustBundle(trust_pb2.GetTrustBundleRequest())

        assert answer.xds_server == f"localhost:{cf.running.xds_address.port}"
