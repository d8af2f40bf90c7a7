"""Run rag as a process of its own."""

from meshwright_common.runner import run
from meshwright_rag.app import build
from meshwright_rag.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
