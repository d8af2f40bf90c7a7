"""What can go wrong with documents and searches, each with its reason."""

from meshwright_common.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServiceError,
    Unavailable,
)


class KnowledgeBaseNotFound(NotFound):
    """No such knowledge base for this tenant, or it was deleted."""

    reason = "KNOWLEDGE_BASE_NOT_FOUND"
    text = "no knowledge base {knowledge_base}: list them, or use the name default"


class KnowledgeBaseExists(AlreadyExists):
    """A knowledge base of this name is there already."""

    text = "a knowledge base named {name} exists: choose another name, or use that one"


class KeyReused(AlreadyExists):
    """The request id was used for something else."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    text = "request_id was used for another request: use a new one"


class DocumentNotFound(NotFound):
    """No such document for this tenant, or it was deleted."""

    reason = "DOCUMENT_NOT_FOUND"
    text = "no document {document_id}"


class DocumentEmpty(InvalidArgument):
    """The file holds no bytes, or no text that could be searched."""

    reason = "DOCUMENT_EMPTY"
    text = "the file is empty: upload a file that holds text"


class DocumentTooLarge(InvalidArgument):
    """The file is over the upload limit, in bytes."""

    reason = "DOCUMENT_TOO_LARGE"
    text = "the file is larger than {limit_bytes} bytes: split it and upload the parts"


class DocumentTypeUnsupported(InvalidArgument):
    """The file is of a kind that is not read."""

    reason = "DOCUMENT_TYPE_UNSUPPORTED"
    text = "this kind of file is not supported: upload one of {supported}"


class DocumentBroken(InvalidArgument):
    """The file is damaged: its format cannot be read to the end."""

    reason = "DOCUMENT_BROKEN"
    text = "the file is damaged: open it, save it again and upload the copy"


class DocumentEncrypted(InvalidArgument):
    """The file needs a password."""

    reason = "DOCUMENT_ENCRYPTED"
    text = "the file needs a password: save a copy without one and upload that"


class DocumentEncoding(InvalidArgument):
    """The text is in no encoding that could be told."""

    reason = "DOCUMENT_ENCODING"
    text = "the encoding of the text is not known: save the file as UTF-8 and upload it again"


class DocumentLimit(ResourceExhausted):
    """Reading the file took more pages, memory, space or time than allowed."""

    reason = "DOCUMENT_LIMIT"
    text = "the file is over the limit of {limit}: split it and upload the parts"


class SearchUnavailable(Unavailable):
    """Neither index could be searched. Safe to repeat."""

    reason = "SEARCH_UNAVAILABLE"
    text = "no index can be searched at the moment: repeat the search later"


class LeaseLost(Aborted):
    """Another worker owns this piece of work now: write nothing."""

    reason = "LEASE_LOST"
    text = "the lease of this work was lost"


class VectorsDiffer(FailedPrecondition):
    """The embedding model makes vectors of another kind than the knowledge base holds."""

    text = (
        "the knowledge base holds vectors of {held}, the model made {made}: configure the model"
        " that it was built with, or create a new knowledge base"
    )


class IndexIncomplete(DataLoss):
    """An index does not hold every passage that was put into it. Safe to do again."""

    text = "the index holds {held} of {wanted} passages"


class FileDamaged(DataLoss):
    """What the object store returns is not what was uploaded. Reading again may help."""

    text = "the stored file is damaged or cut short: upload it again"


class IndexUnavailable(Unavailable):
    """The store of an index is away, full or too busy. Safe to repeat; work waits for it."""

    text = "the store of the {index} index cannot serve this now: {cause}"


class IndexRefused(Internal):
    """The store of an index refused what it was asked: a defect, or a store set up differently."""

    text = "the store of the {index} index refused a request: {cause}"


REJECTIONS: tuple[type[ServiceError], ...] = (
    DocumentEmpty,
    DocumentTooLarge,
    DocumentTypeUnsupported,
    DocumentBroken,
    DocumentEncrypted,
    DocumentEncoding,
    DocumentLimit,
)
"""What makes a document fail at once: trying again with the same bytes cannot help."""

_BY_REASON = {error.reason: error for error in REJECTIONS}


def rejection(reason: str, message: str, metadata: dict[str, str]) -> ServiceError:
    """Return the rejection that a parse worker named by its reason."""
    error = _BY_REASON.get(reason, DocumentBroken)(message)
    error.metadata.update(metadata)
    return error


class FileNotRemoved(Unavailable):
    """The object store still has what it said it removed: look again later."""

    text = "a file that was removed is still there"
