"""Numbers written as words, in English and Chinese, as digits."""

import re
from typing import Final

_UNITS: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_ENGLISH_WORD: Final = "|".join((*_UNITS, *_TENS, "hundred", *_SCALES))
_ENGLISH: Final = re.compile(
    rf"\b(?:{_ENGLISH_WORD})(?:(?:[ -]|\s+and\s+)(?:{_ENGLISH_WORD}))*\b", re.IGNORECASE
)

_DIGITS: Final = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {
    "\u3007": 0,
    "两": 2,
}
_PLACES: Final = {"十": 10, "百": 100, "千": 1000}
_MYRIADS: Final = {"万": 10**4, "亿": 10**8}
_CHINESE: Final = re.compile(f"[{''.join((*_DIGITS, *_PLACES, *_MYRIADS))}]+")


def with_digits(text: str) -> str:
    """Return `text` with number words replaced: "twelve times 三百二十" is "12 times 320"."""
    text = _ENGLISH.sub(lambda match: str(_english(match[0])), text)
    return _CHINESE.sub(lambda match: str(_chinese(match[0])), text)


def _english(words: str) -> int:
    total = current = 0
    for word in re.split(r"[\s-]+", words.lower()):
        if word in _SCALES:
            total += (current or 1) * _SCALES[word]
            current = 0
        elif word == "hundred":
            current = (current or 1) * 100
        else:
            current += _UNITS.get(word, 0) + _TENS.get(word, 0)
    return total + current


def _chinese(signs: str) -> int:
    if all(sign in _DIGITS for sign in signs):
        return int("".join(str(_DIGITS[sign]) for sign in signs))
    total = section = digit = 0
    for sign in signs:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _PLACES:
            # 十二 is 12: a ten without a digit in front is one ten.
            section += (digit or 1) * _PLACES[sign]
            digit = 0
        else:
            total = (total + section + digit or 1) * _MYRIADS[sign]
            section = digit = 0
    return total + section + digit
