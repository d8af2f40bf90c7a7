"""Greetings, thanks and questions about the model itself."""

import re
from enum import StrEnum
from typing import Final


class Smalltalk(StrEnum):
    """What is meant by a message that asks for nothing."""

    GREETING = "greeting"
    THANKS = "thanks"
    FAREWELL = "farewell"
    WHO = "who"


_PATTERNS: Final = (
    (
        Smalltalk.GREETING,
        re.compile(
            r"^\W*(?:hi|hello|hey|howdy|greetings|good (?:morning|afternoon|evening|day)"
            r"|你好|您好|嗨|哈喽|早上好|下午好|晚上好|在吗)(?:\W+(?:there|all|everyone|meshwright|呀|啊))*\W*$",
            re.IGNORECASE,
        ),
    ),
    (
        Smalltalk.THANKS,
        re.compile(
            r"^\W*(?:(?:many |ok(?:ay)?,? )?thanks?(?: you)?(?: (?:very|so) much| a lot)?"
            r"|great|ok(?:ay)?|谢谢你?您?|多谢|好的|太好了)\W*$",
            re.IGNORECASE,
        ),
    ),
    (
        Smalltalk.FAREWELL,
        re.compile(r"^\W*(?:bye|goodbye|good bye|see you(?: later)?|再见|拜拜)\W*$", re.IGNORECASE),
    ),
    (
        Smalltalk.WHO,
        re.compile(
            r"\b(?:who|what) are you\b|\bwhat can you do\b|\bwhat(?:'s| is) your name\b"
            r"|\bwhich (?:model|llm) are you\b|\bhow (?:do|can) (?:you|i) (?:help|use you)\b"
            r"|^\W*help\W*$"
            r"|你是谁|你是什么|你能做什么|你会做什么|你会什么|你叫什么|^\W*帮助\W*$",
            re.IGNORECASE,
        ),
    ),
)


def smalltalk(text: str) -> Smalltalk | None:
    """Return what kind of small talk a message is; None: it is none."""
    for kind, pattern in _PATTERNS:
        if pattern.search(text):
            return kind
    return None


def is_smalltalk(text: str) -> bool:
    """Return whether a message asks for nothing but company."""
    return smalltalk(text) is not None
