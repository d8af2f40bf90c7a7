"""A Python callable that the operator's configuration names, such as a class of LangChain.

Code that runs in this process: only the operator names it, in YAML or the environment; no RPC
carries one.
"""

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class FactoryError(ValueError):
    """The path names nothing that can be called, or the call failed."""


def module_of(path: str) -> str:
    """Return the module that a path names. Raises: FactoryError when it is no path."""
    if not _PATH.fullmatch(path):
        raise FactoryError(f"must be package.module:callable, not {path!r}")
    return path.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Factory:
    """`path` is `package.module:callable`; `arguments` are given to it by name."""

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def resolve(self) -> Callable[..., Any]:
        """Import the callable. Raises: FactoryError that says what is missing."""
        module_name = module_of(self.path)
        try:
            found: Any = importlib.import_module(module_name)
            for name in self.path.partition(":")[2].split("."):
                found = getattr(found, name)
        except ModuleNotFoundError as error:
            raise FactoryError(f"needs {error.name!r}, which is not installed") from error
        except (ImportError, AttributeError) as error:
            raise FactoryError(f"cannot be imported: {error}") from error
        if not callable(found):
            raise FactoryError(f"{self.path!r} names something that cannot be called")
        made: Callable[..., Any] = found
        return made

    def make(self, kind: type[Any]) -> Any:
        """Call it. Raises: FactoryError, also when what it returns is no `kind`."""
        factory = self.resolve()
        try:
            made = factory(**self.arguments)
        # house: broad-except: the operator's code may raise anything, and the start must say so
        except Exception as error:
            raise FactoryError(f"{self.path} failed: {type(error).__name__}: {error}") from error
        if not isinstance(made, kind):
            raise FactoryError(
                f"{self.path} must return a {kind.__name__}, not {type(made).__name__}"
            )
        return made
