"""WebFetcher over the guarded egress client."""

import codecs
from typing import Final

from selectolax.lexbor import LexborHTMLParser

from meshwright_common.egress import EgressClient, EgressFailed, EgressTooLarge
from meshwright_tool_exec.domain.errors import ToolFailed
from meshwright_tool_exec.domain.ports import FetchedPage

_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/xhtml+xml")
_UNREAD_TAGS: Final = ["script", "style", "noscript", "template"]


class GuardedWeb:
    """WebFetcher: what EgressClient refuses is refused; HTML is given as its text."""

    def __init__(self, egress: EgressClient, *, timeout_seconds: float) -> None:
        self._egress = egress
        self._timeout_seconds = timeout_seconds

    async def get(self, url: str, *, max_bytes: int) -> FetchedPage:
        try:
            answer = await self._egress.fetch(
                "GET", url, max_bytes=max_bytes, timeout_seconds=self._timeout_seconds
            )
        except (EgressFailed, EgressTooLarge) as error:
            raise ToolFailed(error.message) from error
        media_type, _, parameters = answer.headers.get("content-type", "").partition(";")
        media_type = media_type.strip().lower()
        if not media_type.startswith(_TEXT_TYPES):
            raise ToolFailed(f"{answer.url} is {media_type or 'of no stated type'}, not text")
        text = answer.body.decode(_charset(parameters), "replace")
        if "html" in media_type:
            text = _visible_text(text)
        return FetchedPage(answer.url, answer.status, media_type, text)


def _charset(parameters: str) -> str:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset":
            try:
                return codecs.lookup(value.strip("\"' ")).name
            except LookupError:
                return "utf-8"
    return "utf-8"


def _visible_text(html: str) -> str:
    tree = LexborHTMLParser(html)
    tree.strip_tags(_UNREAD_TAGS)
    body = tree.body
    lines = (body.text(separator="\n") if body else "").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())
