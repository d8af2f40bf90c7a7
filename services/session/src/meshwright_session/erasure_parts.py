"""What erasing is made of: composed for `app`, which serves and runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc.aio

from meshwright.erasure.v1.store_erasure_service_pb2_grpc import StoreErasureServiceStub
from meshwright.session.v1.erasure_service_pb2_grpc import add_ErasureServiceServicer_to_server
from meshwright_common.encryption import KeyRing
from meshwright_common.erasure.stored import StoredData
from meshwright_common.events.topics import Topic, retentions
from meshwright_common.identity.signing import RecordSigner
from meshwright_common.rpc.channels import Channels, Peer
from meshwright_common.storage.postgres import Database
from meshwright_session.adapters.postgres_directory import PostgresDirectory
from meshwright_session.adapters.postgres_erasure_work import PostgresErasureWork
from meshwright_session.adapters.postgres_erasures import PostgresErasures
from meshwright_session.adapters.store_erasers import OwnStores, PeerStores
from meshwright_session.adapters.tenant_end import PostgresTenantEnd
from meshwright_session.domain.erasure import ErasureRounds, Erasures
from meshwright_session.domain.kept_copies import Retention
from meshwright_session.erasure_worker import ErasureWorker
from meshwright_session.servicers.erasure import ErasureServicer
from meshwright_session.settings import SessionSection

ERASURE_SERVICE: Final = "meshwright.session.v1.ErasureService"
PEERS_WITH_STORES: Final[Sequence[Peer]] = (
    "chat",
    "orchestrator",
    "tool-exec",
    "rag",
    "model-router",
)
"""In the order in which they are asked: what begins work comes before what the work writes into."""


@dataclass(frozen=True, slots=True)
class ErasureParts:
    """What serves calls, and what works."""

    servicer: ErasureServicer
    worker: ErasureWorker

    def register(self, server: grpc.aio.Server) -> None:
        """Register what serves calls."""
        add_ErasureServiceServicer_to_server(self.servicer, server)


def erasure_parts(  # noqa: PLR0913 - all that a composition has at hand
    settings: SessionSection,
    database: Database,
    channels: Channels,
    own: Sequence[StoredData],
    *,
    keys: KeyRing,
    signer: RecordSigner,
    relayed: bool,
    forget: Callable[[str], None],
) -> ErasureParts:
    """Build the parts. `own`: the stores of this service; `relayed`: a broker has all events.

    `forget` empties what this process remembers of a tenant.
    """
    retention = Retention(
        audit=timedelta(days=180),
        receipts=timedelta(days=settings.erasure_retention_days),
        topics=_kept_topics(relayed=relayed),
        audit_topic=Topic.AUDIT_LOG.value,
        relayed=relayed,
    )
    work = PostgresErasureWork(
        database, signer, retention, lease_seconds=settings.erasure_lease_seconds
    )
    peers = [
        PeerStores(name, StoreErasureServiceStub(channels.open(name))) for name in PEERS_WITH_STORES
    ]
    rounds = ErasureRounds(
        work=work,
        services=(*peers, OwnStores(own)),
        tenant_end=PostgresTenantEnd(database, keys),
        settle_seconds=settings.erasure_settle_seconds,
    )
    worker = ErasureWorker(
        rounds,
        lease_seconds=settings.erasure_lease_seconds,
        poll_seconds=settings.erasure_poll_seconds,
        forget=forget,
    )
    erasures = Erasures(PostgresErasures(database), PostgresDirectory(database))
    return ErasureParts(ErasureServicer(erasures, worker.nudge), worker)


def _kept_topics(*, relayed: bool) -> Mapping[str, timedelta]:
    """Return for how long topics keep their events; with a broker, dead letters, too."""
    kept = retentions()
    return kept if relayed else {Topic.AUDIT_LOG.value: kept[Topic.AUDIT_LOG.value]}
