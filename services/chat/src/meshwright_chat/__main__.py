"""Run chat as a process of its own."""

from meshwright_chat.app import build
from meshwright_chat.settings import Settings
from meshwright_common.runner import run

if __name__ == "__main__":
    run(build, Settings)
