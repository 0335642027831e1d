"""The held-out clips of an evaluation, and how a pipeline renders them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from diffusers_dawn.machine.stage_timer import timed
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, FaceState, Portrait
from training.data.clip_shards import ClipShards
from training.data.prepared_report import splits_of
from training.evaluation.extractors import Extractors
from training.evaluation.face_reader import FaceReader, FaceReadings
from training.evaluation.figures import FEWEST_FRAMES, spread_evenly
from training.evaluation.joined_clips import joined, rows_of_clips
from training.evaluation.likeness import frame_likeness
from training.evaluation.metrics.track_agreement import pearson_correlation
from training.evaluation.report import LeftOut
from training.evaluation.settings import HELD, EvaluationSettings
from training.evaluation.shared_work import Place, Row, SharedWork
from training.evaluation.strategies import Stretch, make_stretches
from training.evaluation.validation import TruthClip, read_truth_clip

# stored features that correlate less with those of the pipeline's own encoder come from another one
MIN_FEATURE_CORRELATION = 0.8
PICTURES_AT_ONCE = 8
NO_READER = "faces are read by mediapipe, which cannot be loaded (extra `face`)"


class Evaluation:
    """A pipeline and clips that it was not trained with. Holds the frames of one clip at a time.

    Args:
        pipe: The pipeline, on its device.
        dataset: Folder of a prepared data set with a test split.
        settings: What is evaluated, and how.
        reader: Reads faces; None: nothing can be read from frames.
        lfg: LFG with its motion estimator; None: the pipeline's own.
        extractors: Networks that metrics need; None: there are none.

    Attributes:
        shards: The test split.
        training: The training split; None if there is none.
        rows: The clips in it that are looked at, each with those that are joined to it.
        lfg: LFG with its motion estimator, if there is one.
        reader: Reads faces; None: nothing can be read from frames.
        extractors: Networks that metrics need.
        work: Shares the clips among processes.
        rendered: Videos, frames and seconds that were rendered so far, in all processes.

    Raises:
        ValueError: There is no test split, it has too few clips, or the pipeline does not suit the data set.
    """

    def __init__(
        self,
        pipe: DAWNPipeline,
        dataset: Path,
        settings: EvaluationSettings,
        reader: FaceReader | None,
        lfg: LatentFlowGenerator | None = None,
        extractors: Extractors | None = None,
    ) -> None:
        self.pipe, self.settings = pipe, settings
        self.extractors = Extractors() if extractors is None else extractors
        self.lfg = pipe.lfg if lfg is None else lfg
        self.reader = reader
        self.work = SharedWork(quiet=settings.quiet)
        self.rendered = np.zeros(3)
        # those of this process alone
        self._seconds: dict[str, float] = {"rendering": 0.0}
        self._num_rendered = np.zeros(2, int)
        self._truth_readings: dict[int, FaceReadings] = {}
        self._own_speech: dict[int, tuple[FaceReadings | None, dict[str, float]]] = {}
        self.shards = ClipShards(dataset, "test")
        self.training = ClipShards(dataset, "train") if "train" in splits_of(dataset) else None
        info, width = self.shards.info, pipe.unet.config.audio_dim
        if info.size_px != pipe.default_size:
            raise ValueError(
                f"`dataset` has frames of {info.size_px} px, the pipeline makes {pipe.default_size} px; both must be "
                "equal"
            )
        if info.audio_dim not in (None, width):
            raise ValueError(f"`dataset` has speech features of width {info.audio_dim}, the pipeline expects {width}")
        pipe.plan(FEWEST_FRAMES, height=info.size_px, width=info.size_px, **self._sampling())
        usable = [index for index, entry in enumerate(self.shards.entries) if entry.num_frames >= FEWEST_FRAMES]
        if not usable:
            raise ValueError(f"`dataset` has no clip of {FEWEST_FRAMES} frames or more in its test split: {dataset}")
        rows = [[index] for index in usable]
        if settings.join_clips:
            rows = rows_of_clips(self.shards.entries, usable, settings.num_frames)
            if not rows:
                raise ValueError(
                    f"`clip_seconds` is {settings.clip_seconds:g}, but nobody speaks as long in the test split of "
                    f"{dataset}, all clips together"
                )
        self.rows = [rows[place] for place in spread_evenly(len(rows), settings.num_clips)]

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.rows)

    def needed_reader(self) -> FaceReader:
        """Return the reader; raise `LeftOut` where there is none."""
        if self.reader is None:
            raise LeftOut(NO_READER)
        return self.reader

    def each(self, title: str, places: Mapping[str, Place], judge: Callable[[Place], Row]) -> list[Row]:
        """Judge clips, shared among the processes.

        Args:
            title: What is judged; no two loops share one.
            places: What `judge` takes, by name.
            judge: Returns what a clip says, see `shared_work.Row`.

        Returns:
            What each says, in their order.
        """

        def judged(place: Place) -> Row:
            before = self._own_rendered()
            row = judge(place)
            return {"row": row, "rendered": self._own_rendered() - before}

        found = self.work.rows(title, places, judged)
        self.rendered += sum(kept["rendered"] for kept in found)
        return [kept["row"] for kept in found]

    @property
    def clip_ids(self) -> list[str]:
        """Names of the clips."""
        names = [self.shards.entries[row[0]].clip_id for row in self.rows]
        return [
            name if len(row) == 1 else f"{name}+{len(row) - 1}" for name, row in zip(names, self.rows, strict=True)
        ]

    @property
    def places(self) -> dict[str, int]:
        """Places of the clips, which the other methods take, by name."""
        return {clip_id: place for place, clip_id in enumerate(self.clip_ids)}

    def num_frames(self, place: int) -> int:
        """Count the frames of a clip that are looked at."""
        return sum(count for _, count in self._members(place))

    def truth(self, place: int) -> TruthClip:
        """Read a clip."""
        return joined([read_truth_clip(self.shards, *member) for member in self._members(place)])

    def labels(self, place: int) -> dict[str, np.ndarray]:
        """Read what every prepared clip says about its frames."""
        return self._labels(place, ("pose", "blink", "mouth_px", "face_box_px"))

    def portrait(self, place: int) -> Portrait:
        """Take the first frame of a clip as a portrait."""
        return read_truth_clip(self.shards, self.rows[place][0], 1).portrait()

    def speech(self, place: int) -> torch.Tensor:
        """Read the speech features of a clip (F, D), or compute them where none are stored."""
        if self.shards.info.audio_dim is None:
            return self._encoded_speech(place)
        return torch.from_numpy(self._labels(place, ["audio_features"])["audio_features"].astype(np.float32))

    def speech_note(self) -> str | None:
        """Say if the stored features are not those of the pipeline's own encoder, as the first clip shows."""
        if self.shards.info.audio_dim is None:
            return None
        stored, own = (features.T for features in (self.speech(0), self._encoded_speech(0)))
        correlation = float(pearson_correlation(stored.flatten(), own.flatten()))
        if correlation >= MIN_FEATURE_CORRELATION:
            return None
        return (
            f"The data set's speech features correlate by only {correlation:.2f} with those of the pipeline's own "
            "encoder: figures of the test split are made with the former, those of recordings with the latter."
        )

    def random(self, *purpose: int) -> torch.Generator:
        """Make a source of noise that depends on the seed and a purpose alone."""
        drawn = np.random.SeedSequence((self.settings.seed, *purpose)).generate_state(1)
        return torch.Generator().manual_seed(int(drawn[0]))

    @property
    def makes_tracks(self) -> bool:
        """Whether PBNet makes pose and blinks where speech alone guides a video."""
        return self.pipe.pbnet is not None and self.settings.motion != HELD

    def free_tracks(
        self, portrait: Portrait, speech: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Let PBNet make pose (F, 6) and eye openness (F, 2); what it does not make stays as in the portrait."""
        held = [torch.tensor(state, dtype=torch.float32) for state in (portrait.face.pose, portrait.face.blink)]
        made = [None, None]
        if self.makes_tracks:
            made = self.pipe.predict_motion(speech[None], held[0][None], held[1][None], generator)
        return tuple(
            state.expand(len(speech), -1) if track is None else track[0].float().cpu()
            for state, track in zip(held, made, strict=True)
        )

    def render(
        self,
        portrait: Portrait,
        speech: torch.Tensor,
        tracks: tuple[torch.Tensor, torch.Tensor],
        generator: torch.Generator,
    ) -> list[Stretch]:
        """Animate a portrait, by the strategy of the settings.

        Args:
            portrait: The portrait.
            speech: Speech features (F, D).
            tracks: Pose (F, 6) and eye openness (F, 2).
            generator: Source of noise.

        Returns:
            Stretches of motion, F frames together, which `pictures` draws.
        """
        pose, blink = tracks

        def animate(start: Portrait, frames: np.ndarray) -> torch.Tensor:
            given = {"audio_embeds": speech[frames], "pose": pose[frames], "blink": blink[frames]}
            made = self.pipe(start, **given, **self._sampling(), generator=generator, output_type="latent")
            return made.frames

        def draw(stretch: Stretch, frame: int) -> Portrait:
            return as_portrait(self._drawn(stretch)[0], portrait.face, pose[frame].numpy(), blink[frame].numpy())

        self._num_rendered += (1, len(speech))
        with timed(self._seconds, "rendering"):
            return make_stretches(self.settings.strategy, portrait, len(speech), animate, draw)

    def pictures(self, stretches: Sequence[Stretch], frames: slice = slice(None)) -> np.ndarray:
        """Draw a video.

        Args:
            stretches: Its stretches.
            frames: Which of its frames, one after the other.

        Returns:
            uint8 frames (F, H, W, 3).
        """
        start, stop, _ = frames.indices(sum(stretch.latents.shape[2] for stretch in stretches))
        pictures, first = [], 0
        with timed(self._seconds, "rendering"):
            for latents, portrait in stretches:
                wanted = latents[:, :, max(start - first, 0) : max(stop - first, 0)]
                first += latents.shape[2]
                if wanted.shape[2]:
                    pictures.append(self._drawn(Stretch(wanted, portrait)))
        return np.concatenate(pictures)

    def truth_readings(self, place: int) -> FaceReadings:
        """Read the truth's own frames, once."""
        if place not in self._truth_readings:
            self._truth_readings[place] = self.needed_reader()(self.truth(place).frames)
        return self._truth_readings[place]

    def readings(self, place: int, speaker: int) -> FaceReadings:
        """Render a clip with the speech of another, or its own, and given pose and blinks, and read it.

        Args:
            place: The clip whose portrait, pose and blinks are taken.
            speaker: The clip whose speech is taken, as long as both last.

        Returns:
            What was read; with its own speech it is rendered only once.
        """
        read = self.needed_reader()
        return self._as_itself(place)[0] if place == speaker else read(self._guided(place, speaker))

    def likeness(self, place: int) -> dict[str, float]:
        """Render a clip, once, with its own speech, pose and blinks, and compare it with the truth.

        Args:
            place: The clip.

        Returns:
            As `frame_likeness`.
        """
        return self._as_itself(place)[1]

    @torch.no_grad()
    def reconstruct(self, source: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Let LFG alone draw frames (N, H, W, 3) from another one (1, H, W, 3); uint8."""
        device = next(self.lfg.parameters()).device
        source, frames = (torch.from_numpy(pictures).permute(0, 3, 1, 2) for pictures in (source, frames))
        source = source.to(device).float() / 255
        parts = []
        for part in frames.split(PICTURES_AT_ONCE):
            driving = part.to(device).float() / 255
            parts.append(as_pictures(self.lfg(source.expand_as(driving), driving).prediction))
        return np.concatenate(parts)

    def _as_itself(self, place: int) -> tuple[FaceReadings | None, dict[str, float]]:
        """What is read from a clip with its own speech, pose and blinks, and how near it is to the truth."""
        if place not in self._own_speech:
            pictures, made, truth = self._guided(place, place), None, None
            if self.reader is not None:
                made, truth = self.reader(pictures), self.truth_readings(place)
            likeness = frame_likeness(pictures, self.truth(place).frames, made, truth, self.extractors)
            self._own_speech[place] = made, likeness
        return self._own_speech[place]

    def _guided(self, place: int, speaker: int) -> np.ndarray:
        """Render a clip with the speech of another, or its own, and its own pose and blinks; uint8 (F, H, W, 3)."""
        labels, portrait = self.labels(place), self.portrait(place)
        num_frames = min(self.num_frames(place), self.num_frames(speaker))
        tracks = tuple(torch.from_numpy(labels[name][:num_frames]) for name in ("pose", "blink"))
        return self.pictures(self.render(portrait, self.speech(speaker)[:num_frames], tracks, self.random(0, place)))

    def _members(self, place: int) -> Iterator[tuple[int, int]]:
        """The clips that are joined to one, and how many of their frames are looked at."""
        left = self.settings.num_frames
        for index in self.rows[place]:
            count = min(left, self.shards.entries[index].num_frames)
            left -= count
            if count:
                yield index, count

    def _labels(self, place: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        parts = [(self.shards.read_labels(index, names), count) for index, count in self._members(place)]
        return {name: np.concatenate([labels[name][:count] for labels, count in parts]) for name in names}

    def _own_rendered(self) -> np.ndarray:
        return np.array([*self._num_rendered, self._seconds["rendering"]])

    def _drawn(self, stretch: Stretch) -> np.ndarray:
        pieces = self.pipe.decode_motion(stretch.latents, [stretch.portrait], PICTURES_AT_ONCE)
        return np.concatenate([as_pictures(piece[0]) for piece in pieces])

    def _sampling(self) -> dict[str, Any]:
        names = ("preset", "num_inference_steps", "guidance_scale")
        return {name: getattr(self.settings, name) for name in names}

    def _encoded_speech(self, place: int) -> torch.Tensor:
        parts = [
            self.shards.read_samples(index)[: count * SAMPLE_RATE_HZ // FPS] for index, count in self._members(place)
        ]
        samples = np.concatenate(parts)
        return self.pipe.encode_audio((samples, SAMPLE_RATE_HZ)).cpu()


def as_pictures(images: torch.Tensor) -> np.ndarray:
    """Turn images (F, 3, H, W) in [0, 1] into uint8 pictures (F, H, W, 3)."""
    return (images.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def as_portrait(picture: np.ndarray, face: FaceState, pose: np.ndarray, blink: np.ndarray) -> Portrait:
    """Take a made frame as a portrait.

    Args:
        picture: The frame, uint8 (S, S, 3).
        face: The face of the portrait that it was made from, whose box is taken.
        pose: Pose (6,) that the frame was made with.
        blink: Eye openness (2,) that it was made with.

    Returns:
        The portrait.
    """
    size = picture.shape[:2]
    scale = size[0] / face.image_size[0]
    box_px = tuple(side * scale for side in face.box_px)
    return Portrait(picture, replace(face, pose=pose, blink=blink, box_px=box_px, image_size=size, mouth_px=None))


def resized(picture: np.ndarray, size_px: int) -> np.ndarray:
    """Scale a square picture, uint8 (S, S, 3), to another size."""
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    image = functional.interpolate(image, (size_px, size_px), mode="bicubic", antialias=True)
    return image[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
