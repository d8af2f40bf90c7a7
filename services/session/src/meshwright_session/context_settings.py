"""Settings of contexts and of the first two levels of memory: `MESHWRIGHT_SESSION__CONTEXT__…`."""

from pydantic import Field

from meshwright_common.settings import Section


class ContextSection(Section):
    """What is kept of a session, where, and for how long."""

    l1_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024, le=16 * 1024**3)
    """Memory for sessions that are in use in this process."""

    session_lifetime_seconds: int = Field(default=3600, ge=10, le=7 * 24 * 3600)
    """How long a session that nobody uses stays in this process and in Redis."""

    context_lifetime_seconds: int = Field(default=1800, ge=10, le=7 * 24 * 3600)
    """How long the context of one does in Redis."""

    versions_kept: int = Field(default=20, ge=1, le=10_000)
    """The newest versions of a context, each of which can be restored."""

    windows_kept: int = Field(default=100, ge=1, le=10_000)
    """Older versions: the first that was replaced in each window of time, so many windows."""

    window_seconds: float = Field(default=600, gt=0, le=24 * 3600)
    """Length of such a window."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    """How long replaced versions are kept at most."""

    export_retention_days: int = Field(default=90, ge=1, le=3650)
    """How long their copies in the object store are kept; that of a current version stays."""
