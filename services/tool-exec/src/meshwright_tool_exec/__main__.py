"""Run tool-exec as a process of its own."""

from meshwright_common.runner import run
from meshwright_tool_exec.app import build
from meshwright_tool_exec.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
