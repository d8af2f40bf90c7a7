"""The dashboards: what is on them, and why somebody looks at it."""

from typing import Final

from pages.agents import AGENTS
from pages.events import EVENTS
from pages.knowledge import KNOWLEDGE
from pages.platform import PLATFORM
from pages.router import ROUTER
from pages.streams import STREAMS
from pages.tenants import TENANTS

DASHBOARDS: Final = (PLATFORM, STREAMS, ROUTER, EVENTS, KNOWLEDGE, AGENTS, TENANTS)
