"""Arithmetic in a question, written or worded, as an expression for the calculator tool."""

import ast
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from meshwright_model_router.providers.offline.numerals import with_digits

MAX_CHARACTERS: Final = 2000
"""What is looked at of a question."""
_MAX_EXPRESSION: Final = 500
_MAX_SPOKEN: Final = 80

_FUNCTIONS: Final = {
    "abs", "round", "sqrt", "exp", "ln", "log10", "log2", "sin", "cos", "tan", "floor", "ceil",
    "factorial", "min", "max",
}  # fmt: skip
_N: Final = r"(\d+(?:\.\d+)?|\([^()]*\))"
_LIST: Final = r"((?:\d+(?:\.\d+)?(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s*[、和与]\s*))+\d+(?:\.\d+)?)"

_REWRITES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # English: forms that name their operands around words
        (rf"{_N}\s*(?:%|per\s?cent)\s+off\s+(?:of\s+)?{_N}", r"(\2 * (1 - \1 / 100))"),
        (rf"{_N}\s*(?:%|per\s?cent)\s+of\s+{_N}", r"(\1 / 100 * \2)"),
        (rf"{_N}\s*(?:plus|increased by)\s+{_N}\s*(?:%|per\s?cent)", r"(\1 * (1 + \2 / 100))"),
        (rf"{_N}\s*(?:minus|decreased by)\s+{_N}\s*(?:%|per\s?cent)", r"(\1 * (1 - \2 / 100))"),
        (rf"(?:square root of|sqrt of|root of|√)\s*{_N}", r"sqrt(\1)"),
        (rf"cube root of\s*{_N}", r"(\1 ** (1 / 3))"),
        (rf"half of\s+{_N}", r"(\1 / 2)"),
        (rf"a?\s*third of\s+{_N}", r"(\1 / 3)"),
        (rf"(?:a\s+)?quarter of\s+{_N}", r"(\1 / 4)"),
        (rf"(?:twice|double)\s+{_N}", r"(2 * \1)"),
        (rf"triple\s+{_N}", r"(3 * \1)"),
        (rf"difference between\s+{_N}\s+and\s+{_N}", r"(\1 - \2)"),
        (rf"(?:factorial of\s+{_N})", r"factorial(\1)"),
        (rf"{_N}\s+factorial\b|{_N}\s*!(?!=)", r"factorial(\1\2)"),
        (rf"{_N}\s+squared\b", r"(\1 ** 2)"),
        (rf"{_N}\s+cubed\b", r"(\1 ** 3)"),
        (r"\s+(?:raised )?to the (?:power (?:of )?)?(?=\d)", " ** "),
        (r"(?<=[\d)])\s*(?:st|nd|rd|th) power\b", ""),
        # Chinese
        (rf"{_N}\s*的\s*{_N}\s*%", r"(\1 * \2 / 100)"),
        (rf"{_N}\s*的\s*百分之\s*{_N}", r"(\1 * \2 / 100)"),
        (rf"{_N}\s*%\s*的\s*{_N}", r"(\1 / 100 * \2)"),
        (rf"百分之\s*{_N}", r"(\1 / 100)"),
        (rf"{_N}\s*的\s*平方根", r"sqrt(\1)"),
        (rf"根号\s*{_N}", r"sqrt(\1)"),
        (rf"{_N}\s*的\s*平方", r"(\1 ** 2)"),
        (rf"{_N}\s*的\s*(?:立方|3次方)", r"(\1 ** 3)"),
        (rf"{_N}\s*的\s*{_N}\s*次[方幂]", r"(\1 ** \2)"),
        (rf"{_N}\s*的\s*一半", r"(\1 / 2)"),
        (rf"{_N}\s*的\s*阶乘", r"factorial(\1)"),
        # words between operands
        (r"(?<=[\d)])\s*(?:plus|added to|加上|加)\s*(?=[\d(a-z-])", " + "),
        (r"(?<=[\d)])\s*(?:minus|less|减去|减)\s*(?=[\d(a-z-])", " - "),
        (
            r"(?<=[\d)])\s*(?:times|multiplied by|乘以|乘上|乘|\u00d7|\u00b7|x)\s*(?=[\d(a-z-])",
            " * ",
        ),
        (r"(?<=[\d)])\s*(?:divided by|over|除以|÷)\s*(?=[\d(a-z-])", " / "),
        (r"(?<=[\d)])\s*(?:modulo|mod)\s*(?=[\d(a-z-])", " % "),
    )
)
_SUMS: Final = (
    (re.compile(rf"(?:sum|total) of\s+{_LIST}", re.IGNORECASE), " + ", ""),
    (re.compile(rf"\badd\s+{_LIST}", re.IGNORECASE), " + ", ""),
    (re.compile(rf"product of\s+{_LIST}", re.IGNORECASE), " * ", ""),
    (re.compile(rf"\bmultiply\s+{_LIST}", re.IGNORECASE), " * ", ""),
    (re.compile(rf"(?:average|mean) of\s+{_LIST}", re.IGNORECASE), " + ", "mean"),
    (re.compile(rf"{_LIST}\s*(?:的和|之和|的总和)"), " + ", ""),
    (re.compile(rf"{_LIST}\s*(?:的积|之积|的乘积)"), " * ", ""),
    (re.compile(rf"{_LIST}\s*的平均[值数]"), " + ", "mean"),
)
_SEPARATOR: Final = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*[、和与]\s*")
_NOT_ARITHMETIC: Final = re.compile(
    r"https?://\S+"
    r"|\b\d{4}-\d{1,2}-\d{1,2}\b"  # dates
    r"|\b\d{1,2}/\d{1,2}/\d{2,4}\b"
    r"|\b\d+(?:\.\d+){2,}\b"  # versions and addresses
    r"|\b\d{1,2}:\d{2}\b"  # times of day
)
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<name>[a-z]+[0-9]*)|(?P<sign>\*\*|//|[-+*/%^(),]))",
    re.IGNORECASE,
)
_ASKS: Final = re.compile(
    r"\b(?:what(?:'s| is| are|s)|calculate|compute|evaluate|solve|how much|work out)\b"
    r"|\b(?:equals?|result)\b"
    r"|=|计算|算|等于|多少|几",
    re.IGNORECASE,
)
_SPELLINGS: Final = str.maketrans({"\u2212": "-", "\u2013": "-"})
"""Typographic minus signs; full-width forms are folded before."""
_NAME: Final = re.compile(r"\d+(?:\.\d+)?[-/]\d+(?:\.\d+)?")
_LEAD: Final = re.compile(
    r"^[\s\"'\u201c\u2018]*(?:(?:please|can you|could you|would you|tell me|and|then|now)\s+)*"
    r"(?:(?:what(?:'s| is| are|s)|calculate|compute|evaluate|solve|how much (?:is|are)|work out)\b"
    r"(?:\s+the\b)?\s*:?|(?:请|帮我|麻烦)*(?:计算|算)(?:一下)?\s*[:：]?)?\s*",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(r"\s*(?:=|equals?|是多少|等于多少|等于几|等于|是几)?\s*[?？.。=]*\s*$")


@dataclass(frozen=True, slots=True)
class Calculation:
    """An expression for the calculator, and the way to say it in an answer."""

    expression: str
    spoken: str


def find_calculation(question: str) -> Calculation | None:
    """Return the first calculation that a question asks for; None when it asks for none."""
    original = unicodedata.normalize("NFKC", question[:MAX_CHARACTERS]).strip()
    text = _NOT_ARITHMETIC.sub(" ; ", original)
    text = text.translate(_SPELLINGS)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)  # 2,480
    text = with_digits(text)
    rewritten = _rewritten(text)
    worded = rewritten != text
    asks = worded or bool(_ASKS.search(original))
    for span in _spans(rewritten):
        expression = _trimmed(span)
        if not expression or not (asks or _is_all(expression, rewritten)):
            continue
        # "24/7 support", "802.11-2016": a name, unless it is all that is asked.
        if _NAME.fullmatch(expression) and _phrase(original) != expression:
            continue
        return Calculation(expression, _spoken(original, expression))
    return None


def _rewritten(text: str) -> str:
    for pattern, operator, kind in _SUMS:
        text = pattern.sub(lambda match: _folded(match[1], operator, kind), text)  # noqa: B023
    # Twice: "half of 20% of 80" needs the inner form first.
    for _ in range(2):
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
    return text


def _folded(listed: str, operator: str, kind: str) -> str:
    operands = _SEPARATOR.split(listed)
    joined = f"({operator.join(operands)})"
    return f"({joined} / {len(operands)})" if kind == "mean" else joined


def _spans(text: str) -> list[str]:
    """Return the longest runs of numbers, operators and functions."""
    spans: list[str] = []
    at = start = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        known = token is not None and (
            token["name"] is None or _is_known(token["name"], text, token)
        )
        if token is None or not known:
            spans.append(text[start:at])
            at = start = token.end() if token else at + 1
        else:
            at = token.end()
    spans.append(text[start:])
    return [span.strip() for span in spans if any(sign.isdigit() for sign in span)]


def _is_known(name: str, text: str, token: re.Match[str]) -> bool:
    followed_by_call = text[token.end() :].lstrip().startswith("(")
    return name.lower() == "pi" or (name.lower() in _FUNCTIONS and followed_by_call)


def _trimmed(span: str) -> str:
    """Return the part of a span that is a whole expression with something to compute; or ""."""
    candidate = span.lower().strip().rstrip("+-*/%^,(= ").lstrip("*/%^,)= ")
    while candidate.count(")") > candidate.count("(") and candidate.endswith(")"):
        candidate = candidate[:-1].rstrip()
    while candidate.count("(") > candidate.count(")") and candidate.startswith("("):
        candidate = candidate[1:].lstrip()
    if len(candidate) > _MAX_EXPRESSION or not _computes(candidate):
        return ""
    return _without_outer_parentheses(candidate)


def _computes(expression: str) -> bool:
    try:
        tree = ast.parse(expression.replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    allowed = (
        ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Load, ast.Constant,
        ast.operator, ast.unaryop,
    )  # fmt: skip
    nodes = list(ast.walk(tree))
    return all(isinstance(node, allowed) for node in nodes) and any(
        isinstance(node, (ast.BinOp, ast.Call)) for node in nodes
    )


def _without_outer_parentheses(expression: str) -> str:
    while expression.startswith("(") and expression.endswith(")"):
        depth = 0
        for sign in expression[:-1]:
            depth += (sign == "(") - (sign == ")")
            if depth == 0:
                return expression
        expression = expression[1:-1].strip()
    return expression


def _is_all(expression: str, text: str) -> bool:
    """Return whether a text is nothing but the expression."""
    rest = text.lower().replace(expression, "", 1)
    return not any(sign.isalnum() for sign in rest)


def _phrase(original: str) -> str:
    return _TAIL.sub("", _LEAD.sub("", original, count=1)).strip()


def _spoken(original: str, expression: str) -> str:
    phrase = _phrase(original)
    plain = (
        len(phrase) <= _MAX_SPOKEN and "\n" not in phrase and not re.search(r"[?？;；!]", phrase)
    )
    if plain and any(sign.isdigit() for sign in with_digits(phrase)):
        return phrase
    return expression.replace("**", "^").replace("*", "\u00d7").replace("/", "\u00f7")
