#!/usr/bin/env bash
# Print the folder of Milvus, the standalone server from its wheel (engines/milvus.txt): bin/ has
# the program and its libraries, beside its configuration. Installed into the cache first.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

environment="$(environment_of milvus "$ROOT/infra/dev/engines/milvus.txt")"
home="$environment/milvus"

one_at_a_time milvus-unpack
if [ ! -e "$home/complete" ]; then
    rm -rf "$home"
    # The wheel packs each file by itself and unpacks it at its first start; its launcher is not
    # used here.
    "$environment/bin/python" - "$home" >&2 <<'PYTHON'
import importlib.util, lzma, pathlib, shutil, sys

home = pathlib.Path(sys.argv[1])
data = pathlib.Path(importlib.util.find_spec("milvus").origin).with_name("data")
(home / "bin").mkdir(parents=True)
for packed in sorted((data / "bin").glob("*.lzma")):
    with lzma.open(packed) as source, (home / "bin" / packed.stem).open("wb") as target:
        shutil.copyfileobj(source, target)
    (home / "bin" / packed.stem).chmod(0o755)
for name in ("config.yaml.template", "glog.conf"):
    shutil.copy(data / name, home)
PYTHON
    touch "$home/complete"
fi
echo "$home"
