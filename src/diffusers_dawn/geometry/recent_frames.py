"""The latest frames of a sequence without end."""

import torch


class RecentFrames:
    """Values of frames that come in order and are forgotten in order; frames count from the first there ever was.

    Args:
        dim: Axis of the frames.
    """

    def __init__(self, dim: int = 0) -> None:
        self._dim, self._first = dim, 0
        self._values: torch.Tensor | None = None

    @property
    def num_held(self) -> int:
        """How many frames are in memory."""
        return 0 if self._values is None else self._values.shape[self._dim]

    @property
    def stop(self) -> int:
        """How many frames there were, those that are forgotten included."""
        return self._first + self.num_held

    def add(self, values: torch.Tensor) -> None:
        """Append the values of the next frames; they are copied."""
        known = [] if self._values is None else [self._values]
        self._values = torch.cat([*known, values], dim=self._dim)

    def part(self, first: int, stop: int) -> torch.Tensor:
        """Return the values of some frames.

        Args:
            first: Number of the first.
            stop: Number after the last.

        Returns:
            A view of them.

        Raises:
            ValueError: They are forgotten, or have not come yet.
        """
        if self._values is None or not self._first <= first <= stop <= self.stop:
            raise ValueError(f"frames {first} to {stop} are not held, those from {self._first} to {self.stop} are")
        return self._values.narrow(self._dim, first - self._first, stop - first)

    def forget(self, before: int) -> None:
        """Let go of the frames before one."""
        num_old = min(max(before - self._first, 0), self.num_held)
        if num_old:
            # a copy: a view would keep the memory of all
            self._values = self._values.narrow(self._dim, num_old, self.num_held - num_old).clone()
            self._first += num_old
