"""What the offline model says."""

import re
from itertools import groupby, pairwise
from typing import Final

from meshwright_model_router.providers.offline.conversation import Conversation
from meshwright_model_router.providers.offline.passages import Passage
from meshwright_model_router.providers.offline.selection import Quote, Selection, select
from meshwright_model_router.providers.offline.sentences import sentences
from meshwright_model_router.providers.offline.smalltalk import Smalltalk, smalltalk
from meshwright_model_router.providers.offline.tool_answers import answer_from_results
from meshwright_model_router.providers.offline.tool_plan import (
    CALCULATOR,
    CURRENT_TIME,
    HTTP_GET,
    KNOWLEDGE_SEARCH,
)
from meshwright_model_router.providers.words.analysis import terms

MAX_CONTEXT_TERMS: Final = 4
"""A question of fewer words may lean on the one before it."""
_SUMMARY_SENTENCES: Final = 3
_MIN_SUMMARISED: Final = 200

_MARK: Final = re.compile(r"\[(\d[\d\s,;，、]*)\]")
_SUMMARISE: Final = re.compile(
    r"\bsummar(?:y|i[sz]e|ies)\b|\btl;?dr\b|总结|摘要|概括", re.IGNORECASE
)
_SAID_BY_USER: Final = re.compile(
    r"^User: (.+?)(?=\n\n(?:User|Assistant): |\Z)", re.MULTILINE | re.DOTALL
)
_ABOUT_EARLIER: Final = re.compile(r"\b(?:my|i|me|we|our)\b|我|我们|刚才|之前", re.IGNORECASE)


def answer(conversation: Conversation) -> str:
    """Return the whole answer to a conversation; never empty."""
    kind = smalltalk(conversation.question)
    if kind is not None:
        text = _small(conversation, kind)
    else:
        text = _from_sources(conversation) or _introduction(conversation)
    if conversation.images:
        text += (
            "\n\n（我是离线模型，看不到图片。）"
            if conversation.chinese
            else "\n\n(I cannot see images: the offline model reads text only.)"
        )
    return text


def _from_sources(conversation: Conversation) -> str:
    """Return what tools, documents or the conversation itself say to the question; "": nothing."""
    returned = answer_from_results(conversation)
    passages = conversation.passages
    if passages is None:
        return returned or _summary(conversation) or _from_earlier(conversation)
    if returned and not _asks_in_words(conversation.question):
        # Passages that share some figures with a sum say nothing about it.
        return returned
    selection = select(conversation.question, passages, context=_context(conversation))
    if selection.fits:
        return "\n\n".join(filter(None, (returned, _from_passages(conversation, selection))))
    return (
        returned
        or _summary(conversation)
        or _from_earlier(conversation)
        or _from_passages(conversation, selection)
    )


def _asks_in_words(question: str) -> bool:
    return any(character.isalpha() for term in terms(question) for character in term)


def has_something_to_say(conversation: Conversation) -> bool:
    """Return whether there is anything to answer from: documents or results of tools."""
    return bool(conversation.results or conversation.passages)


def _from_passages(conversation: Conversation, selection: Selection) -> str:
    chinese = conversation.chinese
    if not conversation.passages:
        nothing = (
            "在已上传的文档中没有找到与此相关的内容。"
            if chinese
            else "I found nothing about this in your documents."
        )
        return f"{nothing}\n\n{_introduction(conversation)}"
    if not selection.quotes:
        return (
            "找到的段落没有回答这个问题。"
            if chinese
            else "The passages that were found do not answer this question."
        )
    text = _quoted(selection, chinese=chinese)
    if not selection.fits:
        lead = (
            "找到的段落没有直接回答这个问题，最接近的是："
            if chinese
            else "The passages that were found do not answer this directly. The nearest is:"
        )
        text = f"{lead}\n\n{text}"
    if conversation.first_turn:
        text += (
            "\n\n（内置离线模型的回答：逐字引用文档中最相关的句子，不做推理。）"
            if chinese
            else "\n\n(Answered by the built-in offline model: it quotes the sentences that fit "
            "best, word for word, and does not reason.)"
        )
    return text


def _context(conversation: Conversation) -> str:
    """Return the question before, when this one is too short to stand alone."""
    if conversation.earlier and len(terms(conversation.question)) < MAX_CONTEXT_TERMS:
        return conversation.earlier[-1]
    return ""


def _quoted(selection: Selection, *, chinese: bool) -> str:
    lines: list[str] = []
    groups = groupby(selection.quotes, key=lambda quote: quote.passage)
    for position, (passage, group) in enumerate(groups):
        quotes = list(group)
        text = _unmarked(_run_together(quotes))
        source = _unmarked(_source(passage, chinese=chinese))
        if chinese:
            lead = f"{'根据' if position == 0 else '另见'}{source}："
            lines.append(f"{lead}“{text}” [{passage.number}]")
        else:
            lead = "According to" if position == 0 else "See also"
            lines.append(f"{lead} {source}: “{text}” [{passage.number}]")
    return "\n\n".join(lines)


def _run_together(quotes: list[Quote]) -> str:
    """Return quotes of one passage as they follow each other; gaps are marked."""
    text = quotes[0].text
    for before, quote in pairwise(quotes):
        text += " " if quote.position == before.position + 1 else " … "
        text += quote.text
    return text


def _unmarked(text: str) -> str:
    """Return `text` without numbers in brackets: in an answer they would cite other passages."""
    return _MARK.sub(r"(\1)", text)


def _source(passage: Passage, *, chinese: bool) -> str:
    if chinese:
        return f"《{passage.document}》" + (f"第 {passage.page} 页" if passage.page else "")
    return passage.document + (f", page {passage.page}" if passage.page else "")


# --- without documents -----------------------------------------------------------------------


def _summary(conversation: Conversation) -> str:
    """Return the sentences that say most of a text sent to be summarised; "": there is none."""
    question = conversation.question
    if not _SUMMARISE.search(question) or len(question) < _MIN_SUMMARISED:
        return ""
    said = _SAID_BY_USER.findall(question)
    # Of a conversation, what its user said: an assistant mostly repeats it.
    text = "\n\n".join(said) if len(said) > 1 else question
    found = [one for one in sentences(text) if not _SUMMARISE.search(one)]
    whole = " ".join(found)
    chosen = select(whole[:2000], [Passage(1, "", 0, whole)]).quotes[:_SUMMARY_SENTENCES]
    lead = "文中最主要的句子：" if conversation.chinese else "The sentences that say most of it:"
    return "\n".join([lead, *(f"- {quote.text}" for quote in chosen)])


def _from_earlier(conversation: Conversation) -> str:
    """Return what the user said about this before; "": nothing."""
    question = conversation.question
    earlier = [*conversation.notes, *conversation.earlier]
    if not earlier or not _ABOUT_EARLIER.search(question):
        return ""
    said = [one for one in earlier if not one.rstrip().endswith(("?", "？"))]
    selection = select(question, [Passage(1, "", 0, text) for text in reversed(said)])
    if not selection.fits:
        return ""
    quote = selection.quotes[0].text
    return f"你之前说过：“{quote}”" if conversation.chinese else f"You said earlier: “{quote}”"


def _small(conversation: Conversation, kind: Smalltalk) -> str:
    chinese = conversation.chinese
    if kind is Smalltalk.THANKS:
        return "不客气。" if chinese else "You are welcome."
    if kind is Smalltalk.FAREWELL:
        return "再见！" if chinese else "Goodbye!"
    hello = ""
    if kind is Smalltalk.GREETING:
        hello = "你好！" if chinese else "Hello! "
        if not conversation.first_turn:
            return hello.strip()
    return hello + _introduction(conversation)


def _introduction(conversation: Conversation) -> str:
    """Say what this is, what it can do here, and how to get a real model."""
    offered = {tool.name for tool in conversation.prompt.tools}
    if conversation.chinese:
        return _introduction_in_chinese(offered, first=conversation.first_turn)
    if not conversation.first_turn:
        return (
            "I have nothing to answer this with: I am the built-in offline model, which quotes "
            "documents and uses tools but does not write freely. A real model does; "
            "MESHWRIGHT_MODELS__BASE_URL and MESHWRIGHT_MODELS__MODEL connect one."
        )
    abilities = ["answer questions about your documents and quote them with their page"]
    abilities += [text for tool, text in _ABILITIES.items() if tool in offered]
    listed = "\n".join(f"- {ability}" for ability in abilities)
    return (
        "I am Meshwright's built-in offline model. I need no key and no network, and I am not a "
        f"language model: I do not write freely. What I can do here:\n{listed}\n\n"
        "Add a document with `meshwright ingest FILE`, then ask about it. For free conversation "
        "connect a real model: set MESHWRIGHT_MODELS__BASE_URL (any OpenAI-compatible address), "
        "MESHWRIGHT_MODELS__MODEL and, if it needs a key, MESHWRIGHT_MODELS__API_KEY, and start "
        "again."
    )


def _introduction_in_chinese(offered: set[str], *, first: bool) -> str:
    if not first:
        return (
            "我没有可以回答这个问题的内容：我是内置的离线模型，只引用文档和调用工具，不会自由写作。"
            "设置 MESHWRIGHT_MODELS__BASE_URL 和 MESHWRIGHT_MODELS__MODEL 即可接入真正的模型。"
        )
    abilities = ["回答有关您的文档的问题，并注明页码引用原文"]
    abilities += [text for tool, text in _ABILITIES_IN_CHINESE.items() if tool in offered]
    listed = "\n".join(f"- {ability}" for ability in abilities)
    return (
        "我是 Meshwright 内置的离线模型，不需要密钥，也不需要网络。我不是语言模型，不会自由写作。"
        f"在这里我可以：\n{listed}\n\n"
        "用 `meshwright ingest 文件` 添加文档后即可提问。如需自由对话，请接入真正的模型：设置 "
        "MESHWRIGHT_MODELS__BASE_URL（任何兼容 OpenAI 的地址）、MESHWRIGHT_MODELS__MODEL，"
        "需要密钥时再设置 MESHWRIGHT_MODELS__API_KEY，然后重新启动。"
    )


_ABILITIES: Final = {
    KNOWLEDGE_SEARCH: "look for passages in everything that was uploaded",
    CALCULATOR: 'compute, for example "what is 17.5% of 2,480?"',
    CURRENT_TIME: 'tell the time, for example "what time is it in Tokyo?"',
    HTTP_GET: 'read a public web address, for example "fetch https://example.com"',
}
_ABILITIES_IN_CHINESE: Final = {
    KNOWLEDGE_SEARCH: "在所有已上传的文档中查找段落",
    CALCULATOR: "计算，例如“2480 的 17.5% 是多少？”",
    CURRENT_TIME: "报时，例如“东京现在几点？”",
    HTTP_GET: "读取公开的网址，例如“打开 https://example.com”",
}
