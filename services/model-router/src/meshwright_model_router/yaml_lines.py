"""A YAML document that knows the line of each of its fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from meshwright_common.settings import SettingsError

FieldPath: TypeAlias = Sequence[str | int]
MAX_MISTAKES: Final = 20
"""How many are told at once."""


class Mistake(ValueError):
    """Something is wrong with the field at `path`."""

    def __init__(self, path: FieldPath, text: str) -> None:
        super().__init__(text)
        self.path = tuple(path)


class Document:
    """One document. Raises: yaml.YAMLError when the text is none."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        loader = yaml.SafeLoader(text)
        try:
            self._node = loader.get_single_node()
            self.content: Any = (
                None if self._node is None else loader.construct_document(self._node)
            )
        finally:
            loader.dispose()

    def refuse_doubled_keys(self) -> None:
        """Raise Mistake for a key that a mapping has twice: YAML would take the last of them."""
        for path, node in _nodes(self._node):
            if isinstance(node, yaml.MappingNode):
                seen: set[str] = set()
                for key, _ in node.value:
                    if key.value in seen:
                        raise Mistake((*path, key.value), "stands here twice")
                    seen.add(key.value)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Turn a Mistake into a SettingsError that says where it is."""
        try:
            yield
        except Mistake as mistake:
            raise self.error([(mistake.path, str(mistake))]) from None

    def error(self, mistakes: Iterable[tuple[FieldPath, str]]) -> SettingsError:
        """Return the error that tells each mistake with file, line and field."""
        lines = [
            f"{self._path}:{self._line(path)}: {_words(path)}{text}" for path, text in mistakes
        ]
        return SettingsError("\n".join(lines[:MAX_MISTAKES]))

    def _line(self, path: FieldPath) -> int:
        """Return the line of a field, or of the innermost thing around it that is there."""
        node, line = self._node, 1
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    if isinstance(node, yaml.MappingNode):
        # The last of two is the one that counts.
        for key, value in reversed(node.value):
            if key.value == str(part):
                return key.start_mark.line + 1, value
    return None


def _nodes(root: yaml.Node | None) -> Iterator[tuple[FieldPath, yaml.Node]]:
    """Yield each node once with its path, however often aliases name it."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), root)] if root is not None else []
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, node
        if isinstance(node, yaml.MappingNode):
            waiting += [((*path, key.value), value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [((*path, at), item) for at, item in enumerate(node.value)]


def _words(path: FieldPath) -> str:
    """Return a path as people write it, `deployments[1].base_url: `; empty for the whole."""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}" if words else part
    return f"{words}: " if words else ""
