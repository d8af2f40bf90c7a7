"""session's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import grpc.aio

from meshwright.chat.v1.chat_service_pb2_grpc import ChatServiceStub
from meshwright.rag.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from meshwright.session.v1.directory_service_pb2_grpc import (
    add_DirectoryServiceServicer_to_server,
)
from meshwright.session.v1.notification_service_pb2_grpc import (
    add_NotificationServiceServicer_to_server,
)
from meshwright.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from meshwright.session.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from meshwright_common.app import App, BackgroundTask, Check
from meshwright_common.clock import SystemClock
from meshwright_common.egress import open_egress
from meshwright_common.encryption import KeyRing, open_key_ring
from meshwright_common.events.backbone import event_log, is_relayed, open_relay
from meshwright_common.events.consumer import Consumer
from meshwright_common.events.retention import keep_within_retention
from meshwright_common.identity import api_keys
from meshwright_common.identity.denials import Denials
from meshwright_common.identity.signing import load_record_signer
from meshwright_common.rpc.channels import Channels
from meshwright_common.storage.objects import ObjectStore, open_objects
from meshwright_common.storage.postgres import Database, open_database
from meshwright_common.storage.redis import open_redis
from meshwright_session.adapters.archive_objects import ObjectArchive
from meshwright_session.adapters.context_history import ContextHistory
from meshwright_session.adapters.erased_subjects import (
    MindfulNotificationIntake,
    MindfulTaskCounter,
    MindfulUsageLedger,
    MindfulWebhookIntake,
)
from meshwright_session.adapters.notification_wake_ups import NotificationWakeUps
from meshwright_session.adapters.postgres_archive import PostgresArchive
from meshwright_session.adapters.postgres_audit import PostgresAuditChain
from meshwright_session.adapters.postgres_branches import PostgresBranches
from meshwright_session.adapters.postgres_directory import PostgresDirectory, PostgresTenantRegister
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_messages import PostgresMessages
from meshwright_session.adapters.postgres_notifications import PostgresNotifications
from meshwright_session.adapters.postgres_sessions import PostgresSessions
from meshwright_session.adapters.postgres_task_statistics import PostgresTaskStatistics
from meshwright_session.adapters.postgres_tenants import PostgresTenants
from meshwright_session.adapters.postgres_usage import PostgresUsageReader
from meshwright_session.adapters.refused_keys import CountedRefusals
from meshwright_session.adapters.stored_data import stored_data
from meshwright_session.adapters.token_quota import TokenAlerts
from meshwright_session.adapters.use_clients import UseClients
from meshwright_session.consumers import CONSUMER, TOPICS, Ledgers
from meshwright_session.context_parts import ContextParts, context_exports, context_parts
from meshwright_session.context_worker import ContextKeeper
from meshwright_session.domain.archive import Archive
from meshwright_session.domain.branches import Branches
from meshwright_session.domain.directory import People
from meshwright_session.domain.message_search import MessageSearch
from meshwright_session.domain.notifications import Notifications
from meshwright_session.domain.sessions import Conversations
from meshwright_session.domain.task_statistics import TaskReports
from meshwright_session.domain.tenant_ports import UseElsewhere
from meshwright_session.domain.tenants import Tenants
from meshwright_session.domain.usage_reports import UsageReports
from meshwright_session.erasure_parts import ERASURE_SERVICE, erasure_parts
from meshwright_session.memory_parts import MEMORY_SERVICE, memory_parts
from meshwright_session.notices import NOTICE_TOPICS, NOTICES, Notices
from meshwright_session.record_parts import record_parts
from meshwright_session.servicers.directory import DirectoryServicer
from meshwright_session.servicers.notifications import NotificationServicer
from meshwright_session.servicers.records import UsageServicer
from meshwright_session.servicers.session import SessionServicer
from meshwright_session.settings import SessionSection, Settings
from meshwright_session.webhook_parts import WEBHOOK_SERVICE, webhook_parts
from meshwright_session.workers import Housekeeper

SERVICE_NAMES: Final = (
    "meshwright.session.v1.SessionService",
    "meshwright.session.v1.DirectoryService",
    "meshwright.session.v1.UsageService",
    "meshwright.session.v1.AuditService",
    "meshwright.session.v1.NotificationService",
    MEMORY_SERVICE,
    ERASURE_SERVICE,
    WEBHOOK_SERVICE,
)


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened."""
    async with (
        open_database(
            settings.database, settings.service, max_size=settings.session.max_connections
        ) as database,
        open_key_ring(settings.encryption, database) as keys,
        open_objects(settings.objects) as objects,
        open_redis(settings.redis) as redis,
        open_relay(settings.events, database) as relay,
        open_egress(settings.session.webhooks.egress) as egress,
    ):
        elsewhere = UseClients(
            KnowledgeServiceStub(channels.open("rag")), ChatServiceStub(channels.open("chat"))
        )
        ledgers = Ledgers(
            MindfulUsageLedger,
            PostgresAuditChain,
            PostgresTenantRegister,
            partial(TokenAlerts, plans=settings.session.plans.plans()),
        )
        consumer = Consumer(
            CONSUMER,
            TOPICS,
            ledgers.record,
            database,
            batch_handler=ledgers.record_all,
            log=event_log(settings.events, database),
        )
        notices = make_notices(settings.session, keys)
        notice_consumer = Consumer(
            NOTICES,
            NOTICE_TOPICS,
            notices.handle,
            database,
            batch_handler=notices.handle_all,
            log=event_log(settings.events, database),
        )
        signer = load_record_signer(settings.identity.keys_dir)
        wake_ups = NotificationWakeUps(database)
        housekeeper = Housekeeper(
            PostgresHousekeeping(database),
            PostgresSessions(database, keys),
            make_archive(database, keys, objects, settings.session),
            settings.session,
        )

        relayed = is_relayed(settings.events)
        exports = context_exports(database, objects)
        context = context_parts(
            database,
            keys,
            redis,
            exports,
            make_archive(database, keys, objects, settings.session),
            settings.session,
        )
        context_keeper = ContextKeeper(
            exports, settings.session.context, settings.session.housekeeping_interval_seconds
        )
        memory = memory_parts(settings.session, database, channels, keys)
        records = record_parts(settings.session, database, objects, signer)
        webhooks = webhook_parts(settings.session.webhooks, database, keys, egress)
        stores = stored_data(database, redis, objects, relayed=relayed)
        erasure = erasure_parts(
            settings.session,
            database,
            channels,
            stores,
            keys=keys,
            signer=signer,
            relayed=relayed,
            forget=context.cache.drop_tenant,
        )

        def register(server: grpc.aio.Server) -> None:
            register_servicers(
                server,
                database,
                wake_ups,
                settings.session,
                elsewhere,
                keys=keys,
                context=context,
                denials=channels.denials,
            )
            erasure.register(server)
            records.register(server)
            memory.register(server)
            webhooks.register(server)

        # The relay and retention are of the event log, for all services: this one is in every
        # arrangement.
        keeping = partial(keep_within_retention, database, relayed=relayed)
        relaying = (
            () if relay is None else (BackgroundTask("relay", relay.run, relay.stop, apart=True),)
        )
        yield App(
            name=settings.service,
            register=register,
            service_names=SERVICE_NAMES,
            tasks=(
                BackgroundTask(CONSUMER, consumer.run, consumer.stop, apart=True),
                BackgroundTask(NOTICES, notice_consumer.run, notice_consumer.stop, apart=True),
                BackgroundTask("notification-wake-ups", wake_ups.run),
                BackgroundTask("session-housekeeping", housekeeper.run, apart=True),
                BackgroundTask("context-keeping", context_keeper.run, apart=True),
                BackgroundTask("event-retention", keeping, apart=True),
                BackgroundTask("audit-keeping", records.keeper.run, apart=True),
                BackgroundTask("memory-index", memory.worker.run, memory.worker.stop, apart=True),
                BackgroundTask("erasures", erasure.worker.run, erasure.worker.stop, apart=True),
                BackgroundTask("webhooks", webhooks.worker.run, webhooks.worker.stop, apart=True),
                *relaying,
            ),
            checks=(
                Check("database", database.probe),
                Check("partitions", housekeeper.prepare),
                Check("audit-months", records.keeper.prepare),
            ),
            stores=stores,
            # What the last turns added is for whichever process has the next ones.
            drain=context.checkpoints.written,
        )


def make_archive(
    database: Database, keys: KeyRing, objects: ObjectStore, settings: SessionSection
) -> Archive:
    """Build what moves sessions to the archive and back."""
    register = PostgresArchive(database, keys, keep_months=settings.message_retention_months)
    return Archive(register, ObjectArchive(objects, keys))


def make_notices(settings: SessionSection, keys: KeyRing) -> Notices:
    """Build what handles the events of NOTICE_TOPICS."""
    intake = partial(MindfulNotificationIntake, kept=settings.notifications_per_user)
    return Notices(intake, MindfulTaskCounter, partial(MindfulWebhookIntake, ring=keys))


def register_servicers(  # noqa: PLR0913 - one argument for each thing that it works with
    server: grpc.aio.Server,
    database: Database,
    wake_ups: NotificationWakeUps,
    settings: SessionSection,
    elsewhere: UseElsewhere | None = None,
    *,
    keys: KeyRing,
    context: ContextParts,
    denials: Denials | None = None,
) -> None:
    """Build what serves calls on `database` and register it with `server`."""
    clock = SystemClock()
    plans = settings.plans.plans()
    messages = PostgresMessages(database, keys)
    conversations = Conversations(
        PostgresSessions(database, keys, plans), messages, context.archive, context.windows
    )
    directory = PostgresDirectory(database)
    people = People(directory, api_keys.generate, clock, CountedRefusals(denials or Denials()))
    tenants = Tenants(directory, PostgresTenants(database), plans, elsewhere)
    branches = Branches(PostgresBranches(database, keys, plans, ContextHistory()), context.archive)
    add_SessionServiceServicer_to_server(
        SessionServicer(
            conversations,
            branches,
            MessageSearch(messages),
            context.turns,
            context.withdrawals,
            context.contexts,
        ),
        server,
    )
    add_DirectoryServiceServicer_to_server(DirectoryServicer(people, tenants), server)
    add_UsageServiceServicer_to_server(
        UsageServicer(
            UsageReports(PostgresUsageReader(database), clock),
            TaskReports(PostgresTaskStatistics(database), clock),
        ),
        server,
    )
    notifications = Notifications(
        PostgresNotifications(database),
        wake_ups,
        look_seconds=settings.notification_look_seconds,
    )
    add_NotificationServiceServicer_to_server(NotificationServicer(notifications), server)
