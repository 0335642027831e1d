"""Draw how far mouths open over time, as filmed and as made: what a correlation alone does not tell."""

from pathlib import Path

import numpy as np

from diffusers_dawn.records import FPS

# of one clip's curves; wide enough to count frames
WIDTH_INCH, HEIGHT_INCH, BOTTOM_INCH = 8, 1.5, 0.5
FILMED_COLOUR, MADE_COLOUR = "0.45", "#d9480f"


class OpeningPlot:
    """Draw the curves of some clips, one below the other.

    Args:
        path: Picture to write, PNG or SVG.
        num_clips: Of how many clips, the first that come.
    """

    def __init__(self, path: Path, num_clips: int) -> None:
        self._path, self._num_clips = path, num_clips
        self._rows: list[tuple[str, np.ndarray, np.ndarray]] = []

    def add(self, name: str, filmed: np.ndarray, made: np.ndarray, correlation: float) -> None:
        """Show a clip, or leave it out if there are enough.

        Args:
            name: Its name.
            filmed: Opening as filmed (F,), of the face's height; NaN where no face was seen.
            made: Opening as made, of F frames or fewer.
            correlation: How well they agree, for the title.
        """
        if len(self._rows) < self._num_clips:
            self._rows.append((f"{name}   r = {correlation:.2f}", filmed, made))

    def write(self) -> str | None:
        """Write the picture.

        Returns:
            A note that names it; None where there was no clip to draw.
        """
        if not self._rows:
            return None
        # needed by what reads faces, too
        from matplotlib.figure import Figure

        height = HEIGHT_INCH * len(self._rows) + BOTTOM_INCH
        figure = Figure(figsize=(WIDTH_INCH, height), layout="constrained")
        panels = figure.subplots(len(self._rows), sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (title, filmed, made) in zip(panels, self._rows, strict=True):
            axes.plot(np.arange(len(filmed)) / FPS, filmed, color=FILMED_COLOUR, label="filmed")
            axes.plot(np.arange(len(made)) / FPS, made, color=MADE_COLOUR, label="made")
            axes.set_title(title, fontsize="small", loc="left")
        panels[0].legend(loc="upper right", fontsize="small")
        panels[-1].set_xlabel("time [s]")
        figure.supylabel("mouth opening, of the face's height", fontsize="small")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(self._path, dpi=100)
        return f"Curves of the mouth's opening: {self._path.name}."
