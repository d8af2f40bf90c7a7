"""A real browser: Debian's Chromium without a window, driven over its DevTools protocol.

The protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON over a WebSocket, which
the platform has a client of: no driver has to fit the version that Debian has today.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.sync.client import ClientConnection, connect

from meshwright_common.testing.servers.base import installed

START_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 30.0
LOOK_EVERY_SECONDS: Final = 0.03
LARGEST_MESSAGE_BYTES: Final = 32 * 1024**2
_FLAGS: Final = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--window-size=1280,900",
)


class PageError(AssertionError):
    """The page did not do what it was asked for."""


class PageLeft(PageError):
    """The page was left for another one while it was asked."""


class Page:
    """One tab. Everything is done as a person does it: by labels, clicks and keys."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0
        self.complaints: list[str] = []
        """What the browser complained of: errors of scripts, and what the page's policy refused."""
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its answer. Raises: PageError."""
        self._last += 1
        command = {"id": self._last, "method": method, "params": parameters}
        self._connection.send(json.dumps(command))
        while True:
            message = json.loads(self._connection.recv(timeout=WAIT_SECONDS))
            if message.get("id") == self._last:
                if "error" in message:
                    kind = PageLeft if method == "Runtime.evaluate" else PageError
                    raise kind(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.complaints.append(f"{details['text']} {thrown}")
            case "Log.entryAdded":
                entry = message["params"]["entry"]
                self.complaints.append(f"{entry['source']}: {entry['text']}")

    def open(self, url: str) -> None:
        """Go to an address; return when another page is there, if it leads to one."""
        self.value("window.isLeft = true")
        if self.send("Page.navigate", url=url).get("loaderId"):
            self._await_another()

    def reload(self) -> None:
        """Load the page again; return when it is there."""
        self.value("window.isLeft = true")
        self.send("Page.reload")
        self._await_another()

    def _await_another(self) -> None:
        # Until then the page that is left would answer.
        self.wait("window.isLeft === undefined && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is. Raises: PageError when it throws."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise PageError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, *, seconds: float = WAIT_SECONDS) -> Any:
        """Return what an expression is as soon as it is true. Raises: PageError with the page."""
        deadline = time.monotonic() + seconds
        while not (value := self._value_now(expression)):
            if time.monotonic() > deadline:
                raise PageError(
                    f"not so after {seconds:g} s: {expression}\n{self.text()}\n{self.complaints}"
                )
            time.sleep(LOOK_EVERY_SECONDS)
        return value

    def _value_now(self, expression: str) -> Any:
        try:
            return self.value(expression)
        except PageLeft:
            return None

    def text(self) -> str:
        """Return what can be read."""
        return str(self.value("document.body?.innerText ?? ''"))

    def wait_for_text(self, text: str) -> None:
        """Wait until a text can be read."""
        self.wait(f"document.body?.innerText.includes({json.dumps(text)})")

    def click(self, words: str) -> None:
        """Click what is called so: a button, a link or a summary. Raises: PageError."""
        place = self.wait(
            f"""(() => {{
              const shown = [...document.querySelectorAll("button, a, summary")].find((one) =>
                one.textContent.trim() === {json.dumps(words)}
                && !one.disabled && one.checkVisibility());
              shown?.scrollIntoView({{ block: "center" }});
              const box = shown?.getBoundingClientRect();
              return box && {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def write(self, label: str, text: str) -> None:
        """Type a text where this label leads to."""
        self.wait(
            f"""(() => {{
              const label = [...document.querySelectorAll("label")].find((one) =>
                one.firstChild?.textContent.trim() === {json.dumps(label)}
                && one.checkVisibility());
              label?.control?.focus();
              return Boolean(label) && document.activeElement === label.control;
            }})()"""
        )
        self.send("Input.insertText", text=text)

    def choose(self, label: str, words: str) -> None:
        """Choose the option that is called so, of the choice where this label leads to."""
        self.wait(
            f"""(() => {{
              const label = [...document.querySelectorAll("label")].find((one) =>
                one.firstChild?.textContent.trim() === {json.dumps(label)}
                && one.checkVisibility());
              const option = [...(label?.control?.options ?? [])].find((one) =>
                one.textContent.trim() === {json.dumps(words)});
              if (!option) return false;
              label.control.focus();
              label.control.value = option.value;
              label.control.dispatchEvent(new Event("change", {{ bubbles: true }}));
              return true;
            }})()"""
        )

    def press_enter(self) -> None:
        """Press the key."""
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r" if kind == "keyDown" else "",
                windowsVirtualKeyCode=13,
            )

    def picture(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browsing(folder: Path, *, flags: Sequence[str] = ()) -> Iterator[Page]:
    """Run a browser whose profile is in `folder` until the block ends; give its tab."""
    command = [str(installed("chromium")), *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}"]
    if os.geteuid() == 0:
        # Its sandbox refuses root; the pages are our own.
        command.append("--no-sandbox")
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "chromium.out").open("wb") as output:
        process = subprocess.Popen(
            [*command, "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        address = _address(process, folder)
        with connect(address, max_size=LARGEST_MESSAGE_BYTES, compression=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Return the address of the first tab, when the browser listens. Raises: PageError."""
    file = folder / "profile" / "DevToolsActivePort"
    deadline = time.monotonic() + START_SECONDS
    while True:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) > 1:
            tabs = httpx.get(f"http://127.0.0.1:{lines[0]}/json/list", timeout=WAIT_SECONDS).json()
            for tab in tabs:
                if tab["type"] == "page":
                    return str(tab["webSocketDebuggerUrl"])
        if process.poll() is not None or time.monotonic() > deadline:
            raise PageError(f"no browser: {(folder / 'chromium.out').read_text()[-2000:]}")
        time.sleep(LOOK_EVERY_SECONDS)
