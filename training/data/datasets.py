"""Training samples of each stage, cut out of prepared clips; all randomness comes from the sample's own draw."""

import logging

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from diffusers_dawn.sampling.conditions import Conditions
from training.data.clip_mixture import ClipMixture
from training.data.clip_shards import ClipShards
from training.data.colour_jitter import ColourJitter
from training.data.draw import Draw
from training.data.face_square import draw_corner
from training.data.known_motion import KnownMotion
from training.data.motion_cache import MotionCache
from training.data.mouth import mouth_track
from training.data.steady_pose import steady_pose
from training.objectives.noise_levels import shifted_timestep

logger = logging.getLogger("training")

NUM_TRAIN_TIMESTEPS = 1000
# three seconds of speech, from which a mouth is read
SPOKEN_FRAMES = 75
# which of the mouth's 20 landmarks each one becomes in a mirror
MIRRORED_MOUTH = [6, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 16, 15, 14, 13, 12, 19, 18, 17]


def as_images(frames: np.ndarray) -> torch.Tensor:
    """Turn uint8 frames (F, H, W, 3) into float images (F, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255


def mirrored_places(name: str, places: np.ndarray, last: int) -> np.ndarray:
    """Mirror landmarks or boxes.

    Args:
        name: "mouth_px", "eyes_px" or "face_box_px".
        places: Places per frame (F, ...) [px].
        last: Last column of the picture [px].

    Returns:
        Array like `places`.
    """
    if name == "mouth_px":
        return places[:, MIRRORED_MOUTH] * [-1, 1] + [last, 0]
    if name == "eyes_px":
        places = places[:, ::-1]  # the left eye becomes the right one
    return places[..., [1, 0, 2, 3]] * [-1, -1, 1, 1] + [last, last, 0, 0]


def _mouth_samples(
    labels: dict[str, np.ndarray], first: int, num_frames: int, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Tell the mouth of a window; and of a longer one, from which speech is read."""
    mouth = mouth_track(torch.from_numpy(labels["mouth_px"]), torch.from_numpy(labels["face_box_px"]))
    begin = int(rng.integers(max(1, len(mouth) - SPOKEN_FRAMES + 1)))
    spoken = torch.from_numpy(labels["audio_features"].astype(np.float32))[begin : begin + SPOKEN_FRAMES]
    missing = (0, 0, 0, SPOKEN_FRAMES - len(spoken))
    return {
        "mouth": mouth[first : first + num_frames],
        "spoken": functional.pad(spoken, missing),
        "spoken_mouth": functional.pad(mouth[begin : begin + SPOKEN_FRAMES], missing),
    }


def _check_features(clips: ClipShards) -> None:
    if clips.info.audio_dim is None:
        raise ValueError(
            f"`dataset` {clips.folder} was prepared without audio features; prepare it with `--audio_encoder`"
        )


def check_eyes(clips: ClipShards, setting: str, value: float) -> None:
    """Refuse to weight eyes in a data set without eye boxes.

    Args:
        clips: The prepared clips.
        setting: What asks for the eyes.
        value: How much.

    Raises:
        ValueError: The clips have no label `eyes_px`.
    """
    if "eyes_px" not in clips.read_labels(0):
        raise ValueError(f"`{setting}` is {value}, but `dataset` {clips.folder} has no `eyes_px`")


def blinking_frames(clips: ClipShards, index: int) -> np.ndarray:
    """Find the frames in which a clip's eyes are at most half as open as they mostly are.

    Args:
        clips: The prepared clips.
        index: Which clip.

    Returns:
        Their numbers, int array (N,).
    """
    openness = clips.read_labels(index, ["blink"])["blink"].mean(axis=1)
    return np.flatnonzero(openness < 0.5 * np.median(openness))


class FramePairs(Dataset):
    """Two frames of one clip, what LFG learns from (paper section 3.2).

    Args:
        clips: The prepared clips.
        colour_jitter: Strength of the jitter of brightness, contrast, saturation and hue; 0: none.
        flip: Whether to mirror pairs at random.
        eyes: Whether to tell where the eyes are, which synthetic clips know.
        blink_share: Share of the pairs whose driving frame is drawn from the clip's blinks, if it has any.
    """

    def __init__(
        self,
        clips: ClipShards,
        colour_jitter: float = 0.1,
        flip: bool = True,
        eyes: bool = False,
        blink_share: float = 0.0,
    ) -> None:
        self.clips, self.flip, self.blink_share = clips, flip, blink_share
        self.labels = ["mouth_px", "face_box_px", *(["eyes_px"] if eyes else [])]
        self.jitter = ColourJitter(colour_jitter, colour_jitter, colour_jitter, min(colour_jitter, 0.5))

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a pair.

        Args:
            draw: Which clip, and the seed.

        Returns:
            source and driving (3, H, W) in [0, 1]; mouth_px (2, 20, 2), face_box_px (2, 4) and, where asked for,
            eyes_px (2, 2, 4) of the two; and a seed.
        """
        rng = draw.random()
        num_frames = self.clips.entries[draw.index].num_frames
        # a random order is the flip in time
        chosen = rng.choice(num_frames, size=2, replace=num_frames < 2)
        if self.blink_share and rng.random() < self.blink_share:
            blinks = blinking_frames(self.clips, draw.index)
            chosen[1] = rng.choice(blinks) if len(blinks) else chosen[1]
        pair = as_images(self.clips.read_frames(draw.index, [int(frame) for frame in chosen]))
        pair = self.jitter(pair, rng)
        labels = self.clips.read_labels(draw.index, self.labels)
        places = {name: values[chosen] for name, values in labels.items()}
        if self.flip and rng.random() < 0.5:
            pair = pair.flip(-1)
            places = {name: mirrored_places(name, values, pair.shape[-1] - 1) for name, values in places.items()}
        return {
            "source": pair[0],
            "driving": pair[1],
            **{name: torch.as_tensor(values, dtype=torch.float32) for name, values in places.items()},
            "seed": torch.tensor(int(rng.integers(2**62))),
        }


class Tracks(Dataset):
    """Pose and blink with the speech that goes with them, what PBNet learns from (paper section 3.4).

    Args:
        clips: The prepared clips, with audio features.
        max_frames: Longest piece of a clip; shorter clips are padded to it.
        pose_smoothing_s: Width of the Gaussian that smooths poses that were measured in pictures [s].

    Raises:
        ValueError: The clips have no audio features.
    """

    def __init__(self, clips: ClipShards | ClipMixture, max_frames: int = 200, pose_smoothing_s: float = 0.0) -> None:
        _check_features(clips)
        self.clips, self.max_frames, self.pose_smoothing_s = clips, max_frames, pose_smoothing_s
        if isinstance(clips, ClipMixture):
            self.choose = clips.choose

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a piece: audio_features (F, D), pose (F, 6), blink (F, 2), its length, and a seed."""
        rng = draw.random()
        labels = self.clips.read_labels(draw.index, ["audio_features", "pose", "blink"])
        labels["pose"] = steady_pose(self.clips, draw.index, labels["pose"], self.pose_smoothing_s)
        available = len(labels["pose"])
        length = min(available, self.max_frames)
        first = int(rng.integers(available - length + 1))
        sample = {}
        for name, values in labels.items():
            piece = values[first : first + length].astype(np.float32)
            sample[name] = torch.from_numpy(np.pad(piece, ((0, self.max_frames - length), (0, 0))))
        return sample | {"length": torch.tensor(length), "seed": torch.tensor(int(rng.integers(2**62)))}


class MotionWindows(Dataset):
    """Neighbouring frames, a reference image and the conditions, what A2V-FDM learns from (paper section 3.5).

    Args:
        clips: The prepared clips, with audio features.
        min_frames: Shortest window.
        max_frames: Longest window; the length is drawn once per step. Shorter clips are left out, which is logged.
        reference: "first": the window's first frame; "random": any frame of the clip.
        null_probability: Share of frames that lose their conditions.
        dropped_share: Share of windows that lose speech as a whole, and of those that lose pose, and blinks.
        blink_share: Share of the windows that are drawn around a blink, if the clip has any.
        colour_jitter: Whether colours of a sample are jittered.
        cache: Motion that is known, or was estimated before; None: frames are given, their motion is estimated in the
            step.
        eyes: Whether to tell where the eyes are, which synthetic clips know.
        timestep_shift: Draws diffusion steps nearer to pure noise; 1: all alike.
        crop_px: Side of a square, mostly around the face, whose motion is given; None: all motion. Needs `cache` and
            `eyes`.
        pose_smoothing_s: Width of the Gaussian that smooths poses that were measured in pictures [s].
        mouth: Whether samples tell the mouth's opening and width, see `mouth_track`.

    Raises:
        ValueError: The clips have no audio features, or all are too short.
    """

    def __init__(
        self,
        clips: ClipShards,
        min_frames: int = 20,
        max_frames: int = 20,
        reference: str = "first",
        null_probability: float = 0.1,
        dropped_share: float = 0.0,
        blink_share: float = 0.0,
        colour_jitter: bool = True,
        cache: MotionCache | KnownMotion | None = None,
        eyes: bool = False,
        timestep_shift: float = 1.0,
        crop_px: int | None = None,
        pose_smoothing_s: float = 0.0,
        mouth: bool = False,
    ) -> None:
        _check_features(clips)
        self.indices = [index for index, entry in enumerate(clips.entries) if entry.num_frames >= max_frames]
        if len(self.indices) < len(clips):
            logger.warning("leaving out %d clips of less than %d frames", len(clips) - len(self.indices), max_frames)
        if not self.indices:
            raise ValueError(
                f"`max_frames` is {max_frames}, but no clip of {clips.folder} is as long; prepare longer clips or "
                "lower it"
            )
        self._place_of = {index: place for place, index in enumerate(self.indices)}
        self.clips, self.min_frames, self.max_frames = clips, min_frames, max_frames
        self.reference, self.cache = reference, cache
        self.null_probability, self.dropped_share, self.blink_share = null_probability, dropped_share, blink_share
        self.timestep_shift, self.crop_px, self.pose_smoothing_s = timestep_shift, crop_px, pose_smoothing_s
        self.mouth = mouth
        self.tracks = ["audio_features", "pose", "blink", "mouth_px", *(["eyes_px"] if eyes else [])]
        self.jitter = ColourJitter(64 / 255, 0.25, 0.25, 0.04) if colour_jitter else None
        if cache is not None and cache.depends_on_colours:
            self.jitter = None
        if isinstance(clips, ClipMixture):
            self.choose = self._choose

    def __len__(self) -> int:
        """Count the clips that are long enough."""
        return len(self.indices)

    def _choose(self, rng: np.random.Generator) -> int:
        while True:
            place = self._place_of.get(self.clips.choose(rng))
            if place is not None:
                return place

    def draw_num_frames(self, rng: np.random.Generator) -> int:
        """Draw the length of all windows of a step."""
        return int(rng.integers(self.min_frames, self.max_frames + 1))

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a window.

        Args:
            draw: Which clip, how many frames, and the seed.

        Returns:
            reference (3, H, W), frames (F, 3, H, W) or motion (3, F, h, w), audio_features (F, D), pose (F, 6),
            blink (F, 2), mouth_px (F, 20, 2), where asked for eyes_px (F, 2, 4), reference_pose (6,),
            reference_blink (2,), reference_box_px (4,), noise (3, F, h, w), timestep () and null_mask (F, 3), True
            where speech, pose or blink is lost. With a square, noise is as large as it, and corner (2,) is its left
            and top side in cells. Where asked for, mouth (F, 2), and spoken (T, D) and spoken_mouth (T, 2), a longer
            stretch of speech and its mouth, with zeros where the clip is shorter.
        """
        rng, num_frames, index = draw.random(), draw.num_frames, self.indices[draw.index]
        available = self.clips.entries[index].num_frames
        first = int(rng.integers(available - num_frames + 1))
        if self.blink_share and rng.random() < self.blink_share:
            blinks = blinking_frames(self.clips, index)
            if len(blinks):
                inside = int(rng.choice(blinks)) - int(rng.integers(num_frames))
                first = min(max(inside, 0), available - num_frames)
        reference = first if self.reference == "first" else int(rng.integers(available))
        sample = {}
        if self.cache is not None:
            if self.reference == "first":
                first = reference = self.cache.nearest_reference(index, first, available - num_frames)
            else:
                reference = self.cache.draw_reference(index, rng)
            sample["motion"] = self.cache.read(index, reference, first, num_frames)
        sample |= self._pictures(index, reference, range(first, first + num_frames), rng)
        labels = self.clips.read_labels(index, [*self.tracks, "face_box_px"])
        labels["pose"] = steady_pose(self.clips, index, labels["pose"], self.pose_smoothing_s)
        for name in self.tracks:
            sample[name] = torch.from_numpy(labels[name][first : first + num_frames].astype(np.float32))
        if self.mouth:
            sample |= _mouth_samples(labels, first, num_frames, rng)
        for name in ("pose", "blink", "face_box_px"):
            key = f"reference_{name.removeprefix('face_')}"
            sample[key] = torch.from_numpy(labels[name][reference].astype(np.float32))
        size_px = self.clips.info.size_px
        latent = size_px // 4
        if self.crop_px is not None:
            first_places = {name: sample[name][0].numpy() for name in ("mouth_px", "eyes_px")}
            left, top = draw_corner(first_places, size_px, self.crop_px, latent, rng)
            latent = self.crop_px // 4
            sample["corner"] = torch.tensor([left, top])
        sample["noise"] = torch.from_numpy(rng.standard_normal((3, num_frames, latent, latent), dtype=np.float32))
        timestep = shifted_timestep(int(rng.integers(NUM_TRAIN_TIMESTEPS)), self.timestep_shift, NUM_TRAIN_TIMESTEPS)
        sample["timestep"] = torch.tensor(timestep)
        frame_is_null = rng.random(num_frames) < self.null_probability
        is_dropped = rng.random(len(Conditions._fields)) < self.dropped_share
        sample["null_mask"] = torch.from_numpy(frame_is_null[:, None] | is_dropped)
        return sample

    def _pictures(
        self, index: int, reference: int, window: range, rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        wanted = [reference, *window] if self.cache is None else [reference]
        images = as_images(self.clips.read_frames(index, wanted))
        if self.jitter is not None:
            images = self.jitter(images, rng)
        return {"reference": images[0]} | ({"frames": images[1:]} if self.cache is None else {})
