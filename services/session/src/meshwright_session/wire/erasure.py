"""Erasures on the wire."""

from typing import Final

from meshwright.session.v1 import erasure_pb2
from meshwright_session.domain.erasure_models import Erasure
from meshwright_session.wire import values

_KINDS: Final = {
    "user": erasure_pb2.ERASURE_KIND_USER,
    "tenant": erasure_pb2.ERASURE_KIND_TENANT,
}
_STATES: Final = {
    "erasing": erasure_pb2.ERASURE_STATE_ERASING,
    "settling": erasure_pb2.ERASURE_STATE_SETTLING,
    "completed": erasure_pb2.ERASURE_STATE_COMPLETED,
}


def erasure_message(erasure: Erasure) -> erasure_pb2.Erasure:
    """Return an erasure as the wire shows it."""
    is_due = erasure.state != "completed"
    return erasure_pb2.Erasure(
        erasure_id=erasure.erasure_id,
        kind=_KINDS[erasure.kind],
        subject_id=erasure.subject_id,
        state=_STATES[erasure.state],
        requested_by=erasure.requested_by,
        keep_documents=erasure.keep_documents,
        create_time=values.timestamp(erasure.create_time),
        due_time=values.timestamp(erasure.due_time if is_due else None),
        complete_time=values.timestamp(erasure.complete_time),
        stores=[
            erasure_pb2.StoreReport(
                service=one.service,
                store=one.store,
                removed_count=one.removed,
                remaining_count=one.remaining,
            )
            for one in erasure.stores
        ],
        last_error=erasure.last_error,
        receipt_json=erasure.receipt,
    )
