"""session's composition root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import grpc.aio

# Loaded for its descriptor: MemoryService is declared and not served yet.
from meshwright.session.v1 import memory_service_pb2
from meshwright.session.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server
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
from meshwright_common.events.backbone import event_log, is_relayed, open_relay
from meshwright_common.events.consumer import Consumer
from meshwright_common.events.retention import keep_within_retention
from meshwright_common.identity import api_keys
from meshwright_common.rpc.channels import Channels
from meshwright_common.rpc.unserved import add_unserved_service
from meshwright_common.storage.postgres import Database, open_database
from meshwright_session.adapters.notification_wake_ups import NotificationWakeUps
from meshwright_session.adapters.postgres_audit import PostgresAuditChain, PostgresAuditReader
from meshwright_session.adapters.postgres_directory import PostgresDirectory, PostgresTenantRegister
from meshwright_session.adapters.postgres_housekeeping import PostgresHousekeeping
from meshwright_session.adapters.postgres_messages import PostgresMessages
from meshwright_session.adapters.postgres_notifications import (
    PostgresNotificationIntake,
    PostgresNotifications,
)
from meshwright_session.adapters.postgres_sessions import PostgresContexts, PostgresSessions
from meshwright_session.adapters.postgres_task_statistics import (
    PostgresTaskCounter,
    PostgresTaskStatistics,
)
from meshwright_session.adapters.postgres_usage import PostgresUsageLedger, PostgresUsageReader
from meshwright_session.consumers import CONSUMER, TOPICS, Ledgers
from meshwright_session.domain.audit_trail import AuditTrail
from meshwright_session.domain.directory import People
from meshwright_session.domain.notifications import Notifications
from meshwright_session.domain.sessions import Conversations
from meshwright_session.domain.task_statistics import TaskReports
from meshwright_session.domain.usage_reports import UsageReports
from meshwright_session.notices import NOTICE_TOPICS, NOTICES, Notices
from meshwright_session.servicers.directory import DirectoryServicer
from meshwright_session.servicers.notifications import NotificationServicer
from meshwright_session.servicers.records import AuditServicer, UsageServicer
from meshwright_session.servicers.session import SessionServicer
from meshwright_session.settings import SessionSection, Settings
from meshwright_session.workers import Housekeeper

MEMORY_SERVICE: Final = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name
SERVICE_NAMES: Final = (
    "meshwright.session.v1.SessionService",
    "meshwright.session.v1.DirectoryService",
    "meshwright.session.v1.UsageService",
    "meshwright.session.v1.AuditService",
    "meshwright.session.v1.NotificationService",
    MEMORY_SERVICE,
)


@asynccontextmanager
async def build(settings: Settings, channels: Channels) -> AsyncIterator[App]:
    """Build the service; leaving the block closes what it opened. It calls no other service."""
    async with (
        open_database(
            settings.database, settings.service, max_size=settings.session.max_connections
        ) as database,
        open_relay(settings.events, database) as relay,
    ):
        ledgers = Ledgers(PostgresUsageLedger, PostgresAuditChain, PostgresTenantRegister)
        consumer = Consumer(
            CONSUMER,
            TOPICS,
            ledgers.record,
            database,
            batch_handler=ledgers.record_all,
            log=event_log(settings.events, database),
        )
        notices = make_notices(settings.session)
        notice_consumer = Consumer(
            NOTICES,
            NOTICE_TOPICS,
            notices.handle,
            database,
            batch_handler=notices.handle_all,
            log=event_log(settings.events, database),
        )
        wake_ups = NotificationWakeUps(database)
        housekeeper = Housekeeper(PostgresHousekeeping(database), settings.session)

        def register(server: grpc.aio.Server) -> None:
            register_servicers(server, database, wake_ups, settings.session)

        # The relay and retention are of the event log, for all services: this one is in every
        # arrangement.
        keeping = partial(keep_within_retention, database, relayed=is_relayed(settings.events))
        relaying = () if relay is None else (BackgroundTask("relay", relay.run, relay.stop),)
        yield App(
            name=settings.service,
            register=register,
            service_names=SERVICE_NAMES,
            tasks=(
                BackgroundTask(CONSUMER, consumer.run, consumer.stop),
                BackgroundTask(NOTICES, notice_consumer.run, notice_consumer.stop),
                BackgroundTask("notification-wake-ups", wake_ups.run),
                BackgroundTask("session-housekeeping", housekeeper.run),
                BackgroundTask("event-retention", keeping),
                *relaying,
            ),
            checks=(
                Check("database", database.probe),
                Check("partitions", housekeeper.prepare),
            ),
        )


def make_notices(settings: SessionSection) -> Notices:
    """Build what handles the events of NOTICE_TOPICS."""
    intake = partial(PostgresNotificationIntake, kept=settings.notifications_per_user)
    return Notices(intake, PostgresTaskCounter)


def register_servicers(
    server: grpc.aio.Server,
    database: Database,
    wake_ups: NotificationWakeUps,
    settings: SessionSection,
) -> None:
    """Build what serves calls on `database` and register it with `server`."""
    clock = SystemClock()
    conversations = Conversations(
        PostgresSessions(database), PostgresMessages(database), PostgresContexts(database)
    )
    people = People(PostgresDirectory(database), api_keys.generate, clock)
    add_SessionServiceServicer_to_server(SessionServicer(conversations), server)
    add_DirectoryServiceServicer_to_server(DirectoryServicer(people), server)
    add_unserved_service(MEMORY_SERVICE, server)
    add_UsageServiceServicer_to_server(
        UsageServicer(
            UsageReports(PostgresUsageReader(database), clock),
            TaskReports(PostgresTaskStatistics(database), clock),
        ),
        server,
    )
    add_AuditServiceServicer_to_server(
        AuditServicer(AuditTrail(PostgresAuditReader(database))), server
    )
    notifications = Notifications(
        PostgresNotifications(database),
        wake_ups,
        look_seconds=settings.notification_look_seconds,
    )
    add_NotificationServiceServicer_to_server(NotificationServicer(notifications), server)
