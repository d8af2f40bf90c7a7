"""Promises: what every kind of provider gives through the same door."""

from __future__ import annotations

from tests.contract.promises.promise import Promise

PROVIDERS: dict[str, Promise] = {
    "PV-01": Promise(
        "Text, reasoning, stop reason and usage with cached tokens come the same from OpenAI, "
        "Azure and Anthropic, streamed and whole.",
        "features.md M1",
    ),
    "PV-02": Promise(
        "Tools offered by a client are called and answered through Anthropic and Azure as through "
        "OpenAI.",
        "features.md M1",
    ),
    "PV-03": Promise(
        "A chat model of LangChain that the operator names is a model like any other.",
        "features.md M1",
    ),
    "PV-04": Promise(
        "Nobody but the operator names a factory: what a tenant makes runs no code.",
        "features.md M1; reliability.md S-56",
    ),
    "PV-05": Promise(
        "Rerank and moderation work without a key, and at a provider.", "features.md M1"
    ),
    "PV-06": Promise(
        "Every malformed stream is read as the standard says or ends in a typed error; a stream "
        "that breaks off or stalls never ends as if it were whole, whatever the protocol.",
        "reliability.md F-55, F-56",
    ),
    "PV-07": Promise(
        "What a provider says of its usage is recorded only where it can be true, and a failure of "
        "its own tells its reason.",
        "reliability.md F-52, F-53, F-57",
    ),
}
