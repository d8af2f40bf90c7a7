"""The right to work on a task, as this process can know it without asking."""

from collections.abc import Callable

from meshwright_orchestrator.domain.errors import LeaseLost


class Lease:
    """Good until `seconds` after the moment before it was last granted, and while its renewal, due
    after `renew_seconds`, is not late by more than half of that.

    The database decides by its own clock and each write is checked there. This check keeps a
    process that stood still from starting calls to peers after its time, and lets one that cannot
    renew end those under way before another process makes them.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        seconds: float,
        granted_at: float,
        renew_seconds: float | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._seconds = seconds
        if renew_seconds is not None:
            self._seconds = min(seconds, renew_seconds + seconds / 2)
        self._granted_at = granted_at
        self._lost = False

    def renewed(self, asked_at: float) -> None:
        """Count from `asked_at`, taken before the database was asked."""
        self._granted_at = max(self._granted_at, asked_at)

    def lose(self) -> None:
        """Another process owns the task, or it ended."""
        self._lost = True

    @property
    def is_good(self) -> bool:
        """Whether calls may be started."""
        return not self._lost and self._monotonic() - self._granted_at < self._seconds

    def check(self) -> None:
        """Do nothing while the lease is good. Raises: LeaseLost."""
        if not self.is_good:
            raise LeaseLost
