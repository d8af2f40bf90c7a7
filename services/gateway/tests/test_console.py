"""The files of the console: to anybody, checked again by their ETag, and nothing beside them."""

import re
from importlib import resources

import pytest

from services.gateway.tests.platform import Platform

pytestmark = pytest.mark.asyncio

FILES = {
    entry.name: entry.read_text("utf-8")
    for entry in resources.files("meshwright_gateway").joinpath("console").iterdir()
}
PAGE = FILES.pop("index.html")
MARKUP_SINKS = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "DOMParser",
    "eval(",
)


async def test_the_page_and_its_files_need_no_key(platform: Platform) -> None:
    for path in ("/console", "/console/", *(f"/console/{name}" for name in FILES)):
        async with platform.http.get(platform.url + path) as answer:
            assert answer.status == 200, path
            text = await answer.text()
            assert text == FILES.get(path.rpartition("/")[2], PAGE)
            kind = answer.headers["content-type"]
        assert kind.startswith(("text/html", "text/css", "text/javascript", "image/svg+xml"))


async def test_nothing_runs_but_the_files_of_the_console(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/console") as answer:
        headers = answer.headers

    policy = dict(
        rule.partition(" ")[::2] for rule in headers["content-security-policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in headers


async def test_a_file_that_did_not_change_is_not_sent_again(platform: Platform) -> None:
    async with platform.http.get(f"{platform.url}/console/app.js") as first:
        etag = first.headers["etag"]
    seen = {}
    for given in (etag, f'"other", W/{etag}', "*", '"other"'):
        headers = {"if-none-match": given}
        async with platform.http.get(f"{platform.url}/console/app.js", headers=headers) as again:
            seen[given] = (again.status, len(await again.read()) > 0)
            assert again.headers["etag"] == etag
            assert again.headers["cache-control"] == "no-cache"

    assert list(seen.values()) == [(304, False), (304, False), (304, False), (200, True)]


async def test_nothing_is_served_but_the_files(platform: Platform) -> None:
    """No name becomes a path, however it is written; what is below needs a key, as all else."""
    unknown = ["nothing.js", "index.html", "app.py", "..", "%2e%2e", "app.js%00", "App.js", "a%5Cb"]
    below = ["..%2fapp.py", "../app.py", "..%2f..%2fsettings.py", "a/app.js", "%2fetc%2fpasswd"]
    seen = {name: await _status(platform, name) for name in (*unknown, *below)}

    assert seen == {**dict.fromkeys(unknown, 404), **dict.fromkeys(below, 401)}


async def _status(platform: Platform, name: str) -> int:
    """Ask as no client does, which would put the path right before it sends it."""
    reader, writer = await platform.raw()
    writer.write(f"GET /console/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


async def test_the_console_needs_no_other_host_and_makes_no_markup() -> None:
    for name, text in {**FILES, "index.html": PAGE}.items():
        hosts = set(re.findall(r"https?://[^\s\"')]+", text))
        assert hosts <= {"http://www.w3.org/2000/svg"}, name
        assert not [sink for sink in MARKUP_SINKS if sink in text], name
        assert len(text.splitlines()) <= 300, name
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", PAGE)
    used = set(re.findall(r'(?:src|href)="/console/([^"]+)"', PAGE))
    for name in [name for name in FILES if name.endswith(".js")]:
        used |= set(re.findall(r'from "\./([^"]+)"', FILES[name]))
    assert used == set(FILES)
