"""What well-known models cost by the lists of their providers, for deployments without a price.

The list ships with the platform (`list_prices.json` names its date and sources) and counts only at
the providers' own addresses: whoever else serves a model has prices of their own. Surcharges for
very long prompts are not in it; a deployment's own prices always win.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from meshwright_model_router.domain.pricing import BEGINNING, PricePeriod, Prices

_HOSTS: Final = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
_SNAPSHOT: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
"""A model's dated version costs what the model does."""


def list_prices(provider: str, base_url: str, model: str) -> tuple[PricePeriod, ...]:
    """Return the listed prices of a provider's model at an address; none: it is not listed."""
    if urlsplit(base_url).hostname != _HOSTS.get(provider, ""):
        return ()
    listed = _lists()[provider]
    prices = listed.get(model) or listed.get(_SNAPSHOT.sub("", model))
    return (PricePeriod(BEGINNING, prices),) if prices is not None else ()


@cache
def _lists() -> Mapping[str, Mapping[str, Prices]]:
    content = json.loads((files(__package__) / "list_prices.json").read_text("utf-8"))
    return {
        provider: {
            model: Prices(input_, output, cached)
            for model, (input_, output, cached) in content[provider].items()
        }
        for provider in _HOSTS
    }
