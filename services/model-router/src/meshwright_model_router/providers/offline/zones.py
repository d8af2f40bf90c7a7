"""Questions about the time, and the zone they mean."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_TIME: Final = re.compile(
    r"\bwhat(?:'s| is| was)? (?:the )?(?:current |local |exact )*(?:time|date|day)\b"
    r"|\bwhat (?:time|day|date) is\b|\bwhich (?:day|date) is\b"
    r"|\b(?:current|local) (?:time|date)\b|\btime (?:is it|now)\b"
    r"|\btoday'?s date\b|\bdate (?:is it|today)\b|\btell me the (?:time|date)\b"
    r"|几点|现在.{0,12}时间|当前.{0,6}(?:时间|日期)|今天.{0,6}(?:几号|日期|星期|礼拜|周几)|几月几[号日]",
    re.IGNORECASE,
)
_NOT_NOW: Final = re.compile(
    r"\b(?:time|date|day) (?:of|for|to|when|limit|out|zone|complexity|frame|format)\b",
    re.IGNORECASE,
)
_IANA: Final = re.compile(r"\b([A-Z][A-Za-z]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?|UTC|GMT)\b")


def asks_for_time(question: str) -> bool:
    """Return whether a question is about the time or date now."""
    return bool(_TIME.search(question)) and not _NOT_NOW.search(question)


def find_zone(question: str) -> str:
    """Return the IANA name of the zone that a question names; "": none."""
    if found := _IANA.search(question):
        return found[1]
    if found := _place().search(question):
        return _zones()["-".join(found[0].lower().replace("-", " ").split())]
    return ""


@cache
def _zones() -> Mapping[str, str]:
    """Return the zone of each place in `zones.txt`."""
    zones: dict[str, str] = {}
    for line in (files(__package__) / "zones.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            zone, *places = line.split()
            zones |= dict.fromkeys(places, zone)
    return zones


@cache
def _place() -> re.Pattern[str]:
    longest_first = sorted(_zones(), key=len, reverse=True)
    latin = [place.replace("-", r"[\s-]") for place in longest_first if place.isascii()]
    wide = [place for place in longest_first if not place.isascii()]
    return re.compile(rf"\b(?:{'|'.join(latin)})\b|{'|'.join(wide)}", re.IGNORECASE)
