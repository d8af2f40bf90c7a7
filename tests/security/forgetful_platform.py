"""`meshwright` with the application's own checks of tenants and users switched off, for a test.

    python -m tests.security.forgetful_platform up …

Every condition of a statement that compares a tenant, a user or a subject with a parameter is made
true on its way to the server: what still tells tenants apart is below the application. The file
that FORGOTTEN names gets the number of statements that were changed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from meshwright_cli.main import main
from meshwright_common.storage import postgres
from meshwright_common.storage.connection import ServiceConnection

COUNT_FILE: Final = "FORGOTTEN"
_CHECK: Final = re.compile(
    r"\b(WHERE|AND|ON)(\s+\(?)((?:\w+\.)?(?:tenant_id|user_id|subject|actor) = \$\d+(?:::\w+)?)",
    re.IGNORECASE,
)

_changed: set[str] = set()


def forgetful(query: str) -> str:
    """Return a statement whose checks of who asks are all true."""
    return _CHECK.sub(r"\1\2(\3 OR true)", query)


class ForgetfulConnection(ServiceConnection):
    """A connection whose statements have lost their checks."""

    __slots__ = ()

    async def _get_statement(self, query: str, *args: Any, **kwargs: Any) -> object:
        changed = forgetful(query)
        if changed != query and query not in _changed:
            _changed.add(query)
            _note(len(_changed))
        return await super()._get_statement(changed, *args, **kwargs)  # type: ignore[misc]


def _note(count: int) -> None:
    Path(os.environ[COUNT_FILE]).write_text(str(count))


if __name__ == "__main__":
    postgres.ServiceConnection = ForgetfulConnection  # type: ignore[attr-defined]
    main()
