"""Run the orchestrator as a process of its own."""

from meshwright_common.runner import run
from meshwright_orchestrator.app import build
from meshwright_orchestrator.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
