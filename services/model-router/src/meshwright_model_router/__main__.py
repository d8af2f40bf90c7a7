"""Run model-router as a process of its own."""

from meshwright_common.runner import run
from meshwright_model_router.app import build
from meshwright_model_router.settings import Settings

if __name__ == "__main__":
    run(build, Settings)
