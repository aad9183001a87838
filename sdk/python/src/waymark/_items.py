"""A list of which each step handles some items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from ._context import Context
from ._shape import ShapeError
from ._step import Progress

T = TypeVar("T")

ITEMS_PER_STEP = 100
"""Items that a step of :meth:`Items.each` handles unless told otherwise."""


class Items(Generic[T]):
    """A list of which each step handles some items. A checkpoint holds only those still to do."""

    def __init__(self, items: Iterable[T], per_step: int = ITEMS_PER_STEP) -> None:
        """All `items`, at most `per_step` (1 or more) in each step: choose it so that a step takes 10 to 500 ms."""
        if per_step < 1:
            raise ValueError("per_step is 1 or more")
        self._left = deque(items)
        self._per_step = per_step
        self.current_index = 0
        """Index of the next item."""
        self.total_items = len(self._left)
        """Items in all."""

    def each(self, context: Context, work: Callable[[T], None]) -> Progress | None:
        """Hands the next items to `work`, until a step's share is done or the host asks to yield; at least one.

        Returns `None` once all are done: time for the result.
        """
        for _ in range(self._per_step):
            if not self._left:
                break
            work(self._left.popleft())
            self.current_index += 1
            if context.should_yield():
                break
        return Progress(self.current_index, self.total_items) if self._left else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Items) and self.to_json() == other.to_json()

    def __repr__(self) -> str:
        return f"Items({self.current_index} of {self.total_items})"

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "current_index": self.current_index,
            "total_items": self.total_items,
            "items_per_step": self._per_step,
            "items": list(self._left),
        }

    @classmethod
    def from_json(cls, value: Any, part: Callable[[int, Any, str], T], path: str) -> Items[T]:
        """Reads what :meth:`to_json` wrote; `part` reads one item."""
        try:
            items = [part(0, item, f"{path}/items/{index}") for index, item in enumerate(value["items"])]
            made = cls(items, value["items_per_step"])
            made.current_index, made.total_items = value["current_index"], value["total_items"]
        except (KeyError, TypeError) as error:
            raise ShapeError(path, f"these are no items of a checkpoint: {error}") from error
        return made

    @staticmethod
    def json_schema(item: dict[str, Any] | None = None) -> dict[str, Any]:
        """The schema of :meth:`to_json`."""
        number = {"type": "integer", "minimum": 0}
        properties = {"current_index": number, "total_items": number, "items_per_step": number}
        return {"type": "object", "properties": {**properties, "items": {"type": "array", "items": item or {}}}}
