"""What the audit log is made of: composed for `app`, which serves and runs it."""

from dataclasses import dataclass

import grpc.aio

from meshwright.session.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
from meshwright_common.clock import Clock, SystemClock
from meshwright_common.identity.signing import RecordKeys, RecordSigner
from meshwright_common.storage.objects import ObjectStore
from meshwright_common.storage.postgres import Database
from meshwright_session.adapters.checkpoint_objects import CheckpointObjects
from meshwright_session.adapters.postgres_audit import PostgresAuditReader
from meshwright_session.adapters.postgres_checkpoints import PostgresAuditDoors, PostgresCheckpoints
from meshwright_session.adapters.postgres_denials import PostgresDenialLog
from meshwright_session.domain.audit_keeping import AuditRetention, Checkpointer
from meshwright_session.domain.audit_trail import AuditTrail
from meshwright_session.domain.audit_verification import AuditVerifier
from meshwright_session.record_keeping import RecordKeeper
from meshwright_session.servicers.records import AuditServicer
from meshwright_session.settings import SessionSection


@dataclass(frozen=True, slots=True)
class RecordParts:
    """What serves calls, and what works."""

    servicer: AuditServicer
    checkpointer: Checkpointer
    retention: AuditRetention
    keeper: RecordKeeper

    def register(self, server: grpc.aio.Server) -> None:
        """Register what serves calls."""
        add_AuditServiceServicer_to_server(self.servicer, server)


def record_parts(
    settings: SessionSection,
    database: Database,
    objects: ObjectStore,
    signer: RecordSigner,
    *,
    clock: Clock | None = None,
) -> RecordParts:
    """Build the audit log on `database`, its checkpoints stored in `objects` too."""
    clock = clock or SystemClock()
    reader, store = PostgresAuditReader(database), PostgresCheckpoints(database)
    doors, vault = PostgresAuditDoors(database), CheckpointObjects(objects)
    kept_days = settings.audit_retention_days
    checkpointer = Checkpointer(doors, reader, store, vault, signer, clock, kept_days=kept_days)
    retention = AuditRetention(
        doors, reader, store, vault, signer, signer.keys, clock, kept_days=kept_days
    )
    trail = AuditTrail(reader, store, make_verifier(database, objects, signer.keys))
    return RecordParts(
        servicer=AuditServicer(trail, signer.keys.pems(), PostgresDenialLog(database)),
        checkpointer=checkpointer,
        retention=retention,
        keeper=RecordKeeper(doors, checkpointer, retention, settings),
    )


def make_verifier(database: Database, objects: ObjectStore, keys: RecordKeys) -> AuditVerifier:
    """Build what checks the audit logs in `database`."""
    return AuditVerifier(
        PostgresAuditReader(database),
        PostgresCheckpoints(database),
        CheckpointObjects(objects),
        keys,
    )
