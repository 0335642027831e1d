"""What is evaluated, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffusers_dawn.records import FPS
from training.evaluation.figures import FEWEST_FRAMES
from training.evaluation.strategies import ALL_AT_ONCE, STRATEGIES

LARGEST_SEED = 2**32 - 1
LONG_SECONDS = 24.0
PBNET, GIVEN, HELD = "pbnet", "given", "held"
# where pose and blinks come from when speech alone guides a video
MOTIONS = {
    PBNET: "PBNet makes them",
    GIVEN: "the clip's own in the section `paper`, elsewhere PBNet's",
    HELD: "the portrait's own stay",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What is evaluated, and how.

    Attributes:
        num_clips: How many clips of the test split, at most, evenly spread over it.
        clip_seconds: Longest piece of a clip [s], from its beginning; the first and last so many seconds of long
            videos are compared.
        join_clips: Whether clips of one person are joined, with cuts, until they last that long.
        long_seconds: Length of long videos [s]; None: 24 s, or twice as long as the clips.
        num_long: How many rows of clips become long videos, at most, each forwards and backwards.
        num_videos: Of how many clips of the section `paper` a video is written beside the film, and of how many clips
            and films the mouth's opening is drawn.
        num_portraits: How many portraits speak each recording, at most.
        frame_stride: Reconstruct every N-th frame of a clip.
        preset: Sampler and steps by name, see `DAWNPipeline.__call__`.
        num_inference_steps: Steps of the pipeline's scheduler, instead of a preset.
        guidance_scale: Weight of speech, pose and blinks, or of each by name; None: the pipeline's.
        strategy: In which order frames are made, one of `STRATEGIES`.
        motion: Where pose and blinks come from when speech alone guides a video, one of `MOTIONS`.
        seed: Everything random is a function of it and of a clip's place.
        recordings: Files with real speech.
        real_clips: Folder of films of people who speak; None: there is none.
        portraits: Folder of portraits that speak the recordings in turn, or list of them; None: there is none.
        output: Folder for videos and curves.
        quiet: Whether to show no progress bars.
    """

    num_clips: int = 100
    clip_seconds: float = 4.0
    join_clips: bool = False
    long_seconds: float | None = None
    num_long: int = 8
    num_videos: int = 4
    num_portraits: int = 3
    frame_stride: int = 1
    preset: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | Mapping[str, float] | None = None
    strategy: str = ALL_AT_ONCE
    motion: str = PBNET
    seed: int = 0
    recordings: tuple[Path, ...] = ()
    real_clips: Path | None = None
    portraits: Path | None = None
    output: Path = Path()
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        for name in ("num_clips", "num_long", "num_portraits", "frame_stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be at least 1")
        if self.num_videos < 0:
            raise ValueError(f"`num_videos` is {self.num_videos}, must be 0 or more")
        if self.num_frames < FEWEST_FRAMES:
            raise ValueError(
                f"`clip_seconds` is {self.clip_seconds}, must be at least {FEWEST_FRAMES / FPS}: fewer frames say "
                "nothing about lags"
            )
        if self.long_seconds is None:
            object.__setattr__(self, "long_seconds", max(LONG_SECONDS, 2 * self.clip_seconds))
        if self.num_long_frames < 2 * self.num_frames:
            raise ValueError(
                f"`long_seconds` is {self.long_seconds}, must be at least twice `clip_seconds` ({self.clip_seconds}), "
                "whose length its two ends have"
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"`seed` is {self.seed}, must be from 0 to {LARGEST_SEED}")
        for name, allowed in (("strategy", STRATEGIES), ("motion", MOTIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}, must be one of {', '.join(allowed)}")
        for path in self.recordings:
            if not path.is_file():
                raise ValueError(f"`recordings` has {path}, which is not a file")
        if self.real_clips is not None and not self.real_clips.exists():
            raise ValueError(f"`real_clips` is not there: {self.real_clips}")
        if self.portraits is not None and not self.portraits.exists():
            raise ValueError(f"`portraits` is not there: {self.portraits}")

    @property
    def num_frames(self) -> int:
        """Frames of a clip, at most."""
        return round(self.clip_seconds * FPS)

    @property
    def num_long_frames(self) -> int:
        """Frames of a long video."""
        return round(self.long_seconds * FPS)
