"""Generate the Python stubs of protos/meshwright into protos/gen (or the folder given).

Run it as `make protos`: it needs the compiler pinned in requirements/protos.txt, which is older
than the grpcio that the services run on. Generated code refuses runtimes older than its compiler,
so the compiler's age is what decides how wide a range of grpcio and protobuf other teams may use.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
"""The import root of all .proto files."""

PACKAGE = "meshwright"

PACKAGE_DOCSTRING = '"""Generated from protos/{path} by protos/generate.py: do not edit."""\n'


def main(arguments: list[str]) -> int:
    target = Path(arguments[0]).resolve() if arguments else PROTOS / "gen"
    sources = sorted(path.relative_to(PROTOS) for path in (PROTOS / PACKAGE).rglob("*.proto"))
    shutil.rmtree(target / PACKAGE, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    exit_code = compile_protos(sources, target)
    if exit_code == 0:
        remove_serviceless_stubs(sources, target)
        complete_packages(target)
    return exit_code


def compile_protos(sources: list[Path], target: Path) -> int:
    """Run protoc once over `sources`; return its exit code (it prints its own errors)."""
    plugins = Path(sys.executable).parent
    command: list[str | Path] = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={PROTOS}",
        f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        # Concrete: a servicer may leave out a method, which then answers UNIMPLEMENTED.
        f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{target}",
        *sources,
    ]
    return subprocess.run(command, check=False).returncode


def remove_serviceless_stubs(sources: list[Path], target: Path) -> None:
    """Delete the gRPC modules of files that declare no service: they are empty."""
    for source in sources:
        stub = target / source.with_name(f"{source.stem}_pb2_grpc.py")
        if "class " not in stub.read_text(encoding="utf-8"):
            stub.unlink()
            stub.with_suffix(".pyi").unlink()


def complete_packages(target: Path) -> None:
    """Make every folder a regular package and mark the whole as typed."""
    root = target / PACKAGE
    for folder in (root, *(path for path in root.rglob("*") if path.is_dir())):
        docstring = PACKAGE_DOCSTRING.format(path=folder.relative_to(target).as_posix())
        (folder / "__init__.py").write_text(docstring, encoding="utf-8")
    (root / "py.typed").touch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
