"""Who looks at one space sees what is in it, and nothing of another."""

from __future__ import annotations

from pathlib import Path

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from tests.inspection.spaces import APPS, DEV, HERE, TEST, three_spaces


async def test_status_and_certificates_of_one_space(tmp_path: Path) -> None:
    """Without an app a request may be about one space; if it does not say so, about every one."""
    async with three_spaces(tmp_path) as cf, cf.operator() as channel:
        stub = inspection_pb2_grpc.InspectionServiceStub(channel)

        async def apps(org: str, space: str, app: str = "", *, in_space: bool = True) -> list[str]:
            status = inspection_pb2.GetStatusRequest(
                org=org, space=space, app=app, in_space=in_space
            )
            certs = inspection_pb2.ListCertificatesRequest(
                org=org, space=space, app=app, in_space=in_space
            )
            found = [each.app_guid for each in (await stub.GetStatus(status)).instances]
            listed = (await stub.ListCertificates(certs)).certificates
            assert list(dict.fromkeys(each.app_guid for each in listed)) == found
            return found

        assert await apps(*DEV) == ["b-dev"]
        assert await apps(*TEST) == ["web-test"]
        assert await apps(*HERE) == await apps("", "") == ["b-here"]
        assert await apps("acme", "") == await apps("acme", "nowhere") == []
        assert sorted(await apps(*DEV, in_space=False)) == sorted(APPS)
        # An app is where it is found: by its name there, by its GUID anywhere.
        assert await apps(*DEV, "app-b") == await apps(*TEST, "b-dev") == ["b-dev"]
