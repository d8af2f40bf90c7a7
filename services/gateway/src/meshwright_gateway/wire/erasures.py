"""Erasures: protobuf to what JSON shows."""

import orjson

from meshwright.session.v1 import erasure_pb2
from meshwright_gateway.http.schemas import erasures as schemas
from meshwright_gateway.wire import values


def erasure_view(erasure: erasure_pb2.Erasure) -> schemas.Erasure:
    """Return an erasure as JSON shows it."""
    return schemas.Erasure.model_validate(
        {
            "erasure_id": erasure.erasure_id,
            "kind": values.enum_name(erasure_pb2.ErasureKind, erasure.kind, "ERASURE_KIND_"),
            "subject_id": erasure.subject_id,
            "state": values.enum_name(erasure_pb2.ErasureState, erasure.state, "ERASURE_STATE_"),
            "requested_by": erasure.requested_by,
            "keep_documents": erasure.keep_documents,
            "create_time": values.moment_from(erasure.create_time),
            "due_time": values.time_from(erasure.due_time),
            "complete_time": values.time_from(erasure.complete_time),
            "last_error": erasure.last_error,
            "stores": [
                schemas.StoreReport(
                    service=one.service,
                    store=one.store,
                    removed_count=one.removed_count,
                    remaining_count=one.remaining_count,
                )
                for one in erasure.stores
            ],
            "receipt": orjson.loads(erasure.receipt_json) if erasure.receipt_json else None,
        }
    )
