"""The manifest: every promise of the contract suites, its text and where it was made.

One module of `promises` per family of areas, one mapping per area. `test_manifest.py` fails for a
promise without a test and for a test whose `@pytest.mark.promise("ID")` names no promise. To add an
area: write its mapping, and name it here.
"""

from __future__ import annotations

from tests.contract.promises import (
    adversity,
    budgets,
    caches,
    calls,
    context,
    encryption,
    engines,
    erasure,
    events,
    guards,
    limits_edge,
    link,
    memory,
    mesh,
    placement,
    providers,
    public,
    records,
    routing,
    sessions,
    stream,
    tenants,
)
from tests.contract.promises.promise import Promise

AREAS: dict[str, dict[str, Promise]] = {
    "channel": calls.CHANNEL,
    "policy": calls.POLICY,
    "identity": calls.IDENTITY,
    "errors": calls.ERRORS,
    "events": events.EVENTS,
    "events on Kafka": events.EVENTS_ON_KAFKA,
    "dispatch": engines.DISPATCH,
    "event schemas": events.EVENT_SCHEMAS,
    "event operations": events.EVENT_OPERATIONS,
    "sample consumers": events.SAMPLE_CONSUMERS,
    "budgets": budgets.BUDGETS,
    "request limits": limits_edge.REQUEST_LIMITS,
    "overload": limits_edge.OVERLOAD,
    "public": public.PUBLIC,
    "notifications": public.NOTIFICATIONS,
    "openai": public.OPENAI,
    "grpc": public.GRPC,
    "input": public.INPUT,
    "command line": public.COMMAND_LINE,
    "crashes": adversity.CRASHES,
    "storm": adversity.STORM,
    "mesh": mesh.MESH,
    "registry": mesh.REGISTRY,
    "balancing": mesh.BALANCING,
    "link": link.LINK,
    "stream": stream.STREAM,
    "tls": mesh.TLS,
    "security": adversity.SECURITY,
    "routing": routing.ROUTING,
    "answer cache": caches.CACHES,
    "guards": guards.GUARDS,
    "records": records.RECORDS,
    "memory": memory.MEMORY,
    "sessions": sessions.SESSIONS,
    "context": context.CONTEXT,
    "stores": engines.STORES,
    "encryption": encryption.ENCRYPTION,
    "erasure": erasure.ERASURE,
    "placement": placement.PLACEMENT,
    "tenants": tenants.TENANTS,
    "providers": providers.PROVIDERS,
}
