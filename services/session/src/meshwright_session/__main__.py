"""Run session as a process of its own."""

from meshwright_common.runner import run
from meshwright_session.app import build
from meshwright_session.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
