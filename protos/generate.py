"""Write control_plane/api from the .proto files beside this, or with --check say where they differ.

The rule of this script: the same sources and the versions of constraints.txt give the same bytes.
Descriptors keep the file names of the proto package (``c2c/v1/route.proto``), which is what gRPC
reflection shows; only the imports of the generated modules are moved into our package, so that
nobody needs a top-level ``c2c``. Comments are kept in a descriptor set beside the modules, which
have none: they are what ``grpcurl describe`` prints.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
API = PROTOS.parent / "control_plane" / "api"

PACKAGES = {
    "__init__.py": b'"""Code generated from protos/ by protos/generate.py."""\n',
    "v1/__init__.py": b'"""Messages and services of the proto package c2c.v1."""\n',
}

DESCRIPTOR_SET = "c2c.v1.binpb"

_IMPORT = re.compile(rb"^from c2c\.v1 import ", re.MULTILINE)
_SERVICE = re.compile(r"^service ", re.MULTILINE)


def generate() -> dict[str, bytes]:
    """Return the content of each file below control_plane/api by its relative path.

    Raises:
        SystemExit: there is no .proto file, or protoc refused one (it has printed why).
    """
    sources = sorted(PROTOS.glob("c2c/v1/*.proto"))
    if not sources:
        sys.exit(f"no .proto file in {PROTOS / 'c2c' / 'v1'}")
    services = [source for source in sources if _SERVICE.search(source.read_text("utf-8"))]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        _protoc(sources, f"--python_out={out}", _plugin("mypy"), f"--mypy_out=quiet:{out}")
        descriptors = out / DESCRIPTOR_SET
        _protoc(sources, "--include_source_info", f"--descriptor_set_out={descriptors}")
        if services:
            _protoc(
                services,
                f"--grpc_python_out={out}",
                _plugin("mypy_grpc"),
                f"--mypy_grpc_out=quiet:{out}",
            )
        modules = {
            f"v1/{path.name}": _IMPORT.sub(b"from control_plane.api.v1 import ", path.read_bytes())
            for path in (out / "c2c" / "v1").iterdir()
        }
        return PACKAGES | modules | {f"v1/{DESCRIPTOR_SET}": descriptors.read_bytes()}


def _plugin(name: str) -> str:
    """Return the option that finds a plugin of mypy-protobuf beside the running interpreter."""
    path = Path(sys.executable).with_name(f"protoc-gen-{name}")
    return f"--plugin=protoc-gen-{name}={path}"


def _protoc(sources: list[Path], *options: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}", *options]
    if subprocess.run([*command, *map(str, sources)], check=False).returncode != 0:
        sys.exit("protoc failed")


def committed() -> dict[str, bytes]:
    """Return the content of each file that is below control_plane/api now, by relative path."""
    return {
        path.relative_to(API).as_posix(): path.read_bytes()
        for path in API.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(wanted: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Return one sentence for each file that is missing, stale or not generated at all."""
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - found.keys())),
        *(f"{name} comes from no .proto file" for name in sorted(found.keys() - wanted.keys())),
        *(
            f"{name} differs from its source"
            for name in sorted(wanted.keys() & found.keys())
            if wanted[name] != found[name]
        ),
    ]


def write(wanted: dict[str, bytes], found: dict[str, bytes]) -> None:
    """Make the files below control_plane/api those that are wanted."""
    for name in found.keys() - wanted.keys():
        (API / name).unlink()
    for name, content in wanted.items():
        path = API / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main() -> None:
    """Write the generated code, or with --check exit with 1 if it is not what the sources give."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit with 1 on a difference"
    )
    check = parser.parse_args().check
    wanted, found = generate(), committed()
    if not check:
        write(wanted, found)
        print(f"wrote {len(wanted)} files below {API}")
    elif drift := differences(wanted, found):
        sys.exit("\n".join(["generated code is out of date, say `make generate`:", *drift]))
    else:
        print(f"generated code is up to date: {len(wanted)} files")


if __name__ == "__main__":
    main()
