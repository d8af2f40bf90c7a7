"""The built-in embedding model: near what belongs together, the same everywhere, off the loop."""

import asyncio
import math
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshwright_common.errors import ServiceError
from meshwright_model_router.providers.builtin_embeddings.process import (
    DIMENSIONS,
    BuiltinEmbeddings,
    open_builtin_embeddings,
)
from meshwright_model_router.providers.builtin_embeddings.vectors import embed
from meshwright_model_router.providers.words.analysis import concept, stem


def likeness(first: str, second: str) -> float:
    return sum(one * other for one, other in zip(embed(first), embed(second), strict=True))


SIMILAR = [
    ("How do I reset my password?", "To change a forgotten password, click the reset link."),
    ("how do I remove a package", "To uninstall software use apt purge with the package name."),
    ("configuring networks", "network configuration"),
    ("filesystem", "file systems"),
    ("how many days of vacation", "Employees get 30 days of annual leave per year"),
    ("如何重置密码", "忘记密码怎么办，点击重置链接"),
    ("员工年假有多少天", "每位员工每年享有15天带薪休假"),
    ("如何安装软件包", "Packages are installed with apt-get install."),
    ("database backup", "数据库的备份"),
]
DISSIMILAR = [
    "The history of the Great Wall of China",
    "The printer needs new toner.",
    "服务器机房温度应保持在22度",
    "长城的历史",
]


@pytest.mark.parametrize(("first", "second"), SIMILAR)
def test_what_belongs_together_is_nearer_than_what_does_not(first: str, second: str) -> None:
    assert likeness(first, second) > 0.1 + max(likeness(first, other) for other in DISSIMILAR)


def test_typing_errors_stay_near() -> None:
    assert likeness("instalation of debian", "installation of debian") > 0.6


def test_words_that_every_text_holds_make_nothing_similar() -> None:
    assert likeness("what is the one that is", "this is one of the") < 0.9
    assert likeness("what is a kernel", "what is a salary") < 0.4


@pytest.mark.parametrize(
    "text", ["hello", "你好", "!!! ???", " ", "a" * 30_000, "the of and", "🙂"]
)
def test_vector_has_unit_length_whatever_the_text(text: str) -> None:
    vector = embed(text)
    assert len(vector) == DIMENSIONS
    assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)


def test_same_text_has_the_same_vector_in_every_process() -> None:
    """Vectors are stored: they must not depend on Python's randomised hash."""
    text = "deterministic 确定性 vectors"
    program = (
        "from meshwright_model_router.providers.builtin_embeddings.vectors import embed;"
        f"print(embed({text!r}).tobytes().hex())"
    )
    for seed in ("0", "4711"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert run.stdout.strip() == embed(text).tobytes().hex()


def test_concepts_join_languages() -> None:
    assert concept(stem("password")) == concept("密码") is not None
    assert concept(stem("uninstalling")) == concept(stem("removed"))


@pytest_asyncio.fixture
async def builtin() -> AsyncIterator[BuiltinEmbeddings]:
    async with open_builtin_embeddings() as opened:
        yield opened


async def vectors(builtin: BuiltinEmbeddings, *texts: str) -> list[bytes]:
    answer = await builtin.embed("builtin-384", texts, dimensions=0, seconds_left=None)
    return [bytes(memoryview(vector)) for vector in answer.values]  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_process_gives_the_vectors_in_order(builtin: BuiltinEmbeddings) -> None:
    texts = [f"text number {number}" for number in range(100)]
    assert await vectors(builtin, *texts) == [embed(text).tobytes() for text in texts]


@pytest.mark.asyncio
async def test_callers_at_once_get_their_own_vectors(builtin: BuiltinEmbeddings) -> None:
    texts = [[f"caller {caller} text {number}" for number in range(20)] for caller in range(10)]
    answers = await asyncio.gather(*(vectors(builtin, *own) for own in texts))
    assert answers == [[embed(text).tobytes() for text in own] for own in texts]


@pytest.mark.asyncio
async def test_caller_that_gives_up_disturbs_nobody(builtin: BuiltinEmbeddings) -> None:
    await builtin.warm_up()
    async with asyncio.TaskGroup() as group:
        left = group.create_task(vectors(builtin, *["long text " * 500] * 64))
        stays = group.create_task(vectors(builtin, "short"))
        await asyncio.sleep(0)
        left.cancel()
    assert stays.result() == [embed("short").tobytes()]


@pytest.mark.asyncio
async def test_process_that_died_is_started_again(builtin: BuiltinEmbeddings) -> None:
    await vectors(builtin, "a")
    worker = builtin._worker
    assert worker is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(ServiceError) as raised:
        await vectors(builtin, *["a"] * 64)
    assert raised.value.reason == "PROVIDER_UNAVAILABLE"
    assert await vectors(builtin, "a") == [embed("a").tobytes()]


@pytest.mark.asyncio
async def test_other_lengths_are_refused(builtin: BuiltinEmbeddings) -> None:
    with pytest.raises(ServiceError) as raised:
        await builtin.embed("builtin-384", ["a"], dimensions=100, seconds_left=None)
    assert raised.value.field_violations[0].field == "dimensions"
