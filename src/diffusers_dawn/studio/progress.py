"""How far a job is, in words."""

import time

STAGES = {"denoising": "denoising step", "frames": "frame"}


class Progress:
    """Measure the stages of one job as they go on."""

    def __init__(self) -> None:
        self._stage, self._start_s, self._before = "", 0.0, 0

    def describe(self, stage: str, done: int, total: int) -> str:
        """Say how far a stage is, and how long the rest of it will take at the speed so far.

        Args:
            stage: A stage, see `cli.animate.render`.
            done: How much of it is done.
            total: How much is to be done.

        Returns:
            Such as "frame 40 of 200, about 12 s left".
        """
        now_s = time.monotonic()
        if stage != self._stage:
            # what was done until now began before anybody looked
            self._stage, self._start_s, self._before = stage, now_s, done
        measured = done - self._before
        left_s = (now_s - self._start_s) / measured * (total - done) if measured else None
        left = "" if left_s is None else f", about {left_s:.0f} s left"
        return f"{STAGES.get(stage, stage)} {done} of {total}{left}"
