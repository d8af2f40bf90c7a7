"""The README's story with manuals that nobody here wrote: ingest, ask, see the right page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest

from meshwright_cli.exits import Exit
from tests.asking import ask
from tests.platform_process import Platform, run_command, running_platform

pytestmark = pytest.mark.timeout(180)

ENGLISH = "debian-reference.en.pdf"
CHINESE = "debian-reference.zh-cn.pdf"
MANUALS = (ENGLISH, CHINESE, "maint-guide", "maint-guide.zh-cn.txt")
"""Two long PDFs, a folder with the eleven pages of an HTML manual, a Chinese text."""
KNOWN_PAGES = [
    ("How do I use the Alt-SysRq key?", ENGLISH, {177}),
    ("What does umask do to the permissions of newly created files?", ENGLISH, {38}),
    ("How do I install security upgrades with unattended-upgrades?", ENGLISH, {100}),
    ("How is smartmontools installed and its daemon restarted?", ENGLISH, {187}),
    ("如何使用 SysRq 键？", CHINESE, {170}),
    ("怎样自动升级软件包？", CHINESE, {96}),
    ("如何设置系统的硬件时间？", CHINESE, {172}),
]
"""Questions, and the pages of the PDF, counted from its first leaf, that answer them."""


@pytest.fixture(scope="module", params=["together", "split"])
def library(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sample_documents: Path,
) -> Iterator[Platform]:
    """A platform with the manuals, ingested by the command."""
    data = tmp_path_factory.mktemp("library") / "data"
    with running_platform(data, split=request.param == "split") as platform:
        manuals = [str(sample_documents / name) for name in MANUALS]
        done = run_command("ingest", *manuals, "--data", str(data))
        assert done.returncode == Exit.OK, done.stderr
        assert re.match(r"14 of 14 files can be searched, \d{4} passages\n", done.stdout)
        yield platform


@pytest.mark.parametrize(("question", "document", "pages"), KNOWN_PAGES)
def test_a_question_is_answered_with_the_page_that_answers_it(
    library: Platform, question: str, document: str, pages: set[int]
) -> None:
    with library.client() as client:
        seen = ask(client, question)
    assert seen[-1].name == "turn.completed"
    first = next(event.data for event in seen if event.name == "citation")
    assert (first["document_name"], first["page"]) in {(document, page) for page in pages}
    # The answer quotes what the page says, and says which passage it quotes.
    assert f"[{first['number']}]" in seen[-1].data["answer"]


def test_the_page_of_a_citation_is_that_of_the_file(
    library: Platform, sample_documents: Path
) -> None:
    """Read the cited page with another library than the platform does: the quote stands there."""
    with library.client() as client:
        seen = ask(client, KNOWN_PAGES[0][0])
    cited = next(event.data for event in seen if event.name == "citation")
    file = pypdf.PdfReader(sample_documents / cited["document_name"])
    text = file.pages[cited["page"] - 1].extract_text()
    for there in (text, cited["quote"]):
        # That library loses blanks between words.
        assert "PressingAlt-SysRq(PrtScr)followedbyonekeys" in "".join(there.split())


def test_the_command_shows_text_tools_and_sources(library: Platform) -> None:
    asked = run_command("chat", "How do I use the Alt-SysRq key?", "--data", str(library.data))
    assert asked.returncode == Exit.OK, asked.stderr
    assert f"[1] {ENGLISH}, page 177" in asked.stdout
    session = asked.stderr.split()[-1]
    counted = run_command(
        "chat", "What is 17*23+4?", "--session", session, "--data", str(library.data)
    )
    assert '▸ calculator {"expression": "17*23+4"}' in counted.stdout
    assert "17*23+4 = 395" in counted.stdout
    with library.client() as client:
        turns = client.get(f"/api/v1/sessions/{session}/turns").json()["turns"]
    assert len(turns) == 2


def test_the_command_ends_with_one_and_names_the_files_that_failed(
    library: Platform, tmp_path: Path
) -> None:
    (tmp_path / "good.md").write_text("# Kettle\n\nThe kettle boils in three minutes.\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    done = run_command("ingest", str(tmp_path), "--data", str(library.data))
    assert done.returncode == Exit.FAILED
    assert done.stdout.startswith("1 of 3 files can be searched")
    assert "1 of other types left out" in done.stdout
    failed = {line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("error")}
    assert failed == {str(tmp_path / "broken.pdf"), str(tmp_path / "empty.txt")}


def test_curl_reads_the_stream(library: Platform) -> None:
    program = shutil.which("curl")
    assert program is not None, "make test installs curl, or says so"
    body = json.dumps({"message": "What is 17*23+4?"})
    command = [program, "-sN", f"{library.url}/api/v1/chat", "-d", body]
    command += ["-H", f"authorization: Bearer {library.api_key}"]
    command += ["-H", "content-type: application/json"]
    streamed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    names = re.findall(r"^event: (\S+)$", streamed.stdout, re.M)
    assert names[0] == "turn.started"
    assert {"tool.call", "tool.result", "message.delta"} <= set(names)
    assert names[-1] == "turn.completed"
