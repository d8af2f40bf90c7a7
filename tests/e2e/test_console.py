"""The console in a real browser: sign in, ask, approve, answer, watch a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.browser import Page, browsing
from tests.platform_process import Platform
from tests.relay import relayed
from tests.tenants import NewTenant, new_tenant

pytestmark = [
    pytest.mark.parametrize("platform", ["together"], indirect=True, scope="session"),
    pytest.mark.timeout(240),
]

MARKUP = "<img src=x onerror='misled=1'> <script>misled=2</script> & <b>bold</b>"
"""What a model says that a document has misled."""
ANSWER = "document.querySelector('.turn:last-child .answer')"
IS_DONE = f"{ANSWER} !== null && !{ANSWER}.hasAttribute('aria-busy')"
REPORT: dict[str, Any] = {
    "name": "report",
    "definition": {
        "steps": [
            {
                "name": "sum",
                "action": {"tool": {"tool": "calculator", "arguments": {"expression": "17+4"}}},
            },
            {
                "name": "ask",
                "after": ["sum"],
                "action": {
                    "approval": {
                        "question": "How many copies?",
                        "answer_schema": {
                            "type": "object",
                            "required": ["copies"],
                            "properties": {"copies": {"type": "integer", "maximum": 5}},
                        },
                    }
                },
            },
        ]
    },
}


@pytest.fixture(scope="module")
def tenant(platform: Platform) -> NewTenant:
    """A tenant whose only work is that of these tests."""
    return new_tenant(platform)


@pytest.fixture(scope="module")
def client(platform: Platform, tenant: NewTenant) -> Iterator[httpx.Client]:
    """The API as the same user, with agents that say what the tests are about."""
    agents = {
        "clerk": {"tools": ["calculator"], "approval_tools": ["calculator"]},
        "misled": _with_model(f"sim-say:{MARKUP.encode().hex()}"),
        "slow": _with_model("sim-tps40-n80"),
    }
    with platform.client(tenant.api_key) as client:
        for name, definition in agents.items():
            body = {"definition": {"type": "chat", **definition}}
            client.put(f"/api/v1/agents/{name}", json=body).raise_for_status()
        yield client


def _with_model(name: str) -> dict[str, Any]:
    return {"model_policy": {"model": name}}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all."""
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(platform: Platform, client: httpx.Client, tenant: NewTenant, browser: Page) -> Page:
    """The console, signed in to."""
    return _signed_in(browser, platform.url, tenant)


def _signed_in(page: Page, url: str, tenant: NewTenant) -> Page:
    page.open(f"{url}/console")
    page.wait("document.querySelector('#api-key, nav:not([hidden])') !== null")
    if page.value("document.getElementById('api-key') !== null"):
        page.write("API key", tenant.api_key)
        page.click("Sign in")
    page.wait_for_text("Waiting for you")
    page.complaints.clear()
    return page


def _ask(page: Page, agent: str, question: str) -> None:
    page.click("Chat")
    page.choose("Agent", agent)
    page.write("Message", question)
    page.value(
        """window.lengths = [];
        new MutationObserver(() => {
          const answer = [...document.querySelectorAll(".answer")].at(-1);
          if (answer) window.lengths.push(answer.textContent.length);
        }).observe(document.body, { subtree: true, childList: true, characterData: true });"""
    )
    page.press_enter()


def test_an_answer_streams_and_its_markup_stays_text(page: Page) -> None:
    """Whatever a model says is shown as it was said, and nothing of it becomes an element."""
    _ask(page, "misled", "What does the page say?")
    page.wait(IS_DONE)

    assert page.value(f"{ANSWER}.textContent") == MARKUP
    page.reload()
    page.wait(f"{IS_DONE} && {ANSWER}.textContent.length > 0")
    assert page.value(f"{ANSWER}.textContent") == MARKUP
    assert page.value(f"{ANSWER}.childElementCount") == 0
    assert page.value("window.misled === undefined")
    assert not page.complaints


def test_an_answer_streams_and_goes_on_where_its_connection_broke(
    platform: Platform, client: httpx.Client, tenant: NewTenant, browser: Page
) -> None:
    """What comes again after a break is not shown again, and nothing is left out."""
    with relayed(platform.url) as relay:
        page = _signed_in(browser, relay.url, tenant)
        _ask(page, "slow", "Tell me eighty words.")
        page.wait("window.lengths?.at(-1) > 30")
        relay.cut()
        page.wait_for_text("The connection broke: going on …")
        page.wait(IS_DONE)
        session = page.value("location.hash").rpartition("/")[2]
        shown = page.value(f"{ANSWER}.textContent")
        lengths = page.value("window.lengths")
        asked_for = page.value("performance.getEntriesByType('resource').map((one) => one.name)")
        page.open("about:blank")

    turn = client.get(f"/api/v1/sessions/{session}/turns").json()["turns"][0]
    assert shown == turn["answer"]
    # Nothing was taken back, and never was there more than the answer.
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(turn["answer"])
    assert [path for path in asked_for if path.endswith(f"/turns/{turn['turn_id']}/events")]


def test_a_call_is_approved_in_the_page_and_the_task_completes(
    page: Page, client: httpx.Client
) -> None:
    page.click("Tasks")
    page.click("Hand in a task")
    page.choose("Agent of the new task", "clerk")
    page.write("Message", "What is 17*23+4?")
    page.click("Hand in")
    page.wait_for_text("May the agent clerk call calculator?")
    task_id = page.value("location.hash").rpartition("/")[2]
    page.value("location.hash = '#/waiting'")
    # The exact arguments, not the question alone.
    page.wait_for_text('"expression": "17*23+4"')
    page.click("Approve")
    page.wait_for_text("Nothing waits for you.")
    page.value(f"location.hash = '#/tasks/{task_id}'")
    page.wait_for_text("17*23+4 = 395")
    page.wait("document.querySelector('.facts .badge').dataset.state === 'completed'")

    assert client.get(f"/api/v1/tasks/{task_id}").json()["result"]["answer"] == "17*23+4 = 395"
    assert not page.complaints


def test_what_was_answered_elsewhere_leaves_the_page(page: Page, client: httpx.Client) -> None:
    body = {"agent": "clerk", "message": "What is 2*21?"}
    task_id = client.post("/api/v1/tasks", json=body).json()["task_id"]
    # It came by itself: nobody loaded the page again.
    page.wait_for_text('"expression": "2*21"')
    asked = client.get("/api/v1/interrupts", params={"task_id": task_id}).json()["interrupts"][0]
    answer = {"interrupt_id": asked["interrupt_id"], "answer": {"approved": False}}
    client.post(f"/api/v1/tasks/{task_id}/resume", json=answer).raise_for_status()
    page.wait_for_text("Nothing waits for you.")

    assert "One was answered elsewhere" in page.text()
    assert not page.complaints


def test_a_question_of_a_run_is_answered_by_its_form(page: Page, client: httpx.Client) -> None:
    """A wrong answer is refused by the name of its field, and the graph shows each state."""
    workflow = client.post("/api/v1/workflows", json=REPORT).json()["workflow_id"]
    run = client.post(f"/api/v1/workflows/{workflow}/runs", json={}).json()["run_id"]
    page.value(f"location.hash = '#/runs/{run}'")
    page.wait_for_text("How many copies?")
    assert _states(page) == {"sum": "completed", "ask": "waiting"}

    page.write("copies", "9")
    page.click("Answer")
    page.wait("document.querySelector('[aria-invalid]') !== null")
    refused = page.value("document.querySelector('.field-error').textContent")
    assert "5" in refused
    page.value("document.querySelector('[aria-invalid]').select()")
    page.write("copies", "3")
    page.click("Answer")
    page.wait(f'JSON.stringify({_STATES}).includes(\'"ask":"completed"\')')
    assert _states(page) == {"sum": "completed", "ask": "completed"}


_STATES = """Object.fromEntries([...document.querySelectorAll('svg .step')].map((step) =>
  [step.querySelector('.name').textContent, step.dataset.state]))"""


def _states(page: Page) -> dict[str, str]:
    states: dict[str, str] = page.value(_STATES)
    return states


def test_a_wrong_key_is_refused_and_forgotten(page: Page) -> None:
    page.click("Sign out")
    page.write("API key", "mw_wrong")
    page.click("Sign in")
    page.wait("document.querySelector('.problem') !== null")

    assert page.value("sessionStorage.length") == 0
    assert page.value("localStorage.length") == 0
