"""Personal data and secrets by kind: what they look like, and how a likeness is checked.

Check digits: Luhn (ISO/IEC 7812-1) of cards, mod 97 (ISO 13616) of IBANs, mod 11-2 (ISO 7064,
GB 11643) of Chinese identity numbers. A number that only looks like one is none.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, TypeAlias

Check: TypeAlias = Callable[[str], int]
"""Returns how many characters of a likeness are the thing itself, from its beginning; 0: none."""


@dataclass(frozen=True, slots=True)
class PiiPattern:
    """One kind. `hint` is in every text that has one; `pattern` looks one character around it."""

    name: str
    hint: re.Pattern[str]
    pattern: re.Pattern[str]
    check: Check = len


_DIGIT: Final = re.compile(r"[0-9]")
_CARD_DIGITS: Final = range(13, 20)
_IBAN_LENGTHS: Final = range(15, 35)
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS: Final = "10X98765432"
_SECRETS: Final = (
    r"sk-[A-Za-z0-9_-]{16,400}"
    r"|mw_[A-Za-z0-9_-]{20,200}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}"
    r"|github_pat_[A-Za-z0-9_]{30,255}"
    r"|glpat-[A-Za-z0-9_-]{20,64}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}"
    r"|AIza[0-9A-Za-z_-]{35}"
    r"|hf_[A-Za-z0-9]{30,64}"
    r"|eyJ[A-Za-z0-9_-]{8,1200}\.eyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{8,700}"
    r"|-----BEGIN [A-Z ]{0,24}PRIVATE KEY-----[A-Za-z0-9+/=\s]{0,3600}"
    r"(?:-----END [A-Z ]{0,24}PRIVATE KEY-----)?"
)
KEY_BEGINNINGS: Final = (
    r"(?<![A-Za-z0-9_])(?:sk-|mw_|AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza|hf_"
    r"|eyJ)"
)
BLOCK_BEGINNING: Final = "-----BEGIN"


def _card(likeness: str) -> int:
    """Return the longest beginning with a card's number of digits and Luhn's check digit."""
    digits = [(int(char), index) for index, char in enumerate(likeness) if char.isdigit()]
    for count in reversed(_CARD_DIGITS):
        if count > len(digits):
            continue
        end = digits[count - 1][1] + 1
        if likeness[end : end + 1].isdigit():
            continue
        numbers = [digit for digit, _ in digits[:count]]
        if len(set(numbers)) > 1 and _luhn(numbers):
            return end
    return 0


def _luhn(digits: list[int]) -> bool:
    odd = digits[-1::-2]
    even = (divmod(2 * digit, 10) for digit in digits[-2::-2])
    return (sum(odd) + sum(tens + ones for tens, ones in even)) % 10 == 0


def _iban(likeness: str) -> int:
    """Return the longest beginning, up to a blank or the end, whose remainder is 1."""
    end = len(likeness)
    while end > 0:
        letters = likeness[:end].replace(" ", "")
        if len(letters) in _IBAN_LENGTHS and _remainder_97(letters) == 1:
            return end
        end = likeness.rfind(" ", 0, end)
    return 0


def _remainder_97(letters: str) -> int:
    return int("".join(str(int(char, 36)) for char in letters[4:] + letters[:4])) % 97


def _cn_id(likeness: str) -> int:
    try:
        born = date(int(likeness[6:10]), int(likeness[10:12]), int(likeness[12:14]))
    except ValueError:
        return 0
    total = sum(
        int(digit) * weight for digit, weight in zip(likeness[:17], _ID_WEIGHTS, strict=True)
    )
    fits = _ID_CHECKS[total % 11] == likeness[17].upper() and born.year >= 1900
    return len(likeness) if fits else 0


def _ssn(likeness: str) -> int:
    area, group, serial = likeness.split("-")
    never = area in {"000", "666"} or area[0] == "9" or group == "00" or serial == "0000"
    return 0 if never else len(likeness)


def _phone(likeness: str) -> int:
    return len(likeness) if 7 <= sum(map(str.isdigit, likeness)) <= 15 else 0


def _ip(likeness: str) -> int:
    trimmed = likeness.rstrip(":") if not likeness.endswith("::") else likeness
    try:
        if ":" in trimmed:
            IPv6Address(trimmed)
            if sum(char != ":" for char in trimmed) < 2:
                return 0
        else:
            IPv4Address(trimmed)
    except AddressValueError:
        return 0
    return len(trimmed)


_OF_KIND: Final = (
    PiiPattern(
        "secret",
        re.compile(f"{KEY_BEGINNINGS}|{BLOCK_BEGINNING}"),
        re.compile(rf"(?<![A-Za-z0-9_])(?:{_SECRETS})"),
    ),
    PiiPattern(
        "email",
        re.compile("@"),
        re.compile(
            r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}"
            r"@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
    ),
    PiiPattern(
        "iban",
        _DIGIT,
        re.compile(
            r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?"
            r"(?![A-Za-z0-9])"
        ),
        _iban,
    ),
    PiiPattern(
        "cn_id",
        _DIGIT,
        re.compile(r"(?<![A-Za-z0-9])[1-9][0-9]{16}[0-9Xx](?![A-Za-z0-9])"),
        _cn_id,
    ),
    PiiPattern(
        "card",
        _DIGIT,
        re.compile(r"(?<![A-Za-z0-9])[2-6](?:[ -]?[0-9]){12,30}(?![A-Za-z0-9])"),
        _card,
    ),
    PiiPattern(
        "ssn",
        _DIGIT,
        re.compile(r"(?<![A-Za-z0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![A-Za-z0-9-])"),
        _ssn,
    ),
    PiiPattern(
        "phone",
        _DIGIT,
        re.compile(
            r"(?<![A-Za-z0-9+])(?:"
            r"\+[1-9](?:[ ().-]{0,2}[0-9]){6,14}"
            r"|\(?[2-9][0-9]{2}\)?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}"
            r"|1[3-9][0-9](?:[ -]?[0-9]{4}){2}"
            r"|0[1-9][0-9]{1,4}[ /-]{1,3}[0-9](?:[ -]?[0-9]){5,9}"
            r")(?![A-Za-z0-9])"
        ),
        _phone,
    ),
    PiiPattern(
        "ip",
        _DIGIT,
        re.compile(
            r"(?<![A-Za-z0-9.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9]|\.[0-9])"
            r"|(?<![A-Za-z0-9.:])[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,39}(?![A-Za-z0-9:])"
        ),
        _ip,
    ),
)

PII_PATTERNS: Final[Mapping[str, PiiPattern]] = {one.name: one for one in _OF_KIND}
"""The kinds by name; of two that begin at one place the earlier one here is meant."""
