"""Run the gateway as a process of its own."""

from meshwright_common.runner import run
from meshwright_gateway.app import build
from meshwright_gateway.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
