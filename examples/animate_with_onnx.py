"""Animate a portrait without torch: numpy and onnxruntime run the graphs that `dawn export-onnx` writes.

    dawn export-onnx graphs
    python examples/animate_with_onnx.py graphs --image portrait.png --audio speech.wav -o talking.mp4

The same seed makes the same video as `dawn animate` on a CPU. One clip at a time, of the size of the checkpoint, up to
60 s; all frames are denoised at once.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from diffusers_dawn import Portrait, Waveform, read_waveform, write_video
from diffusers_dawn.face.crop import prepare_portrait
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.face.person import PersonSegmenter, with_person
from diffusers_dawn.media.recordings import resample

CONDITIONS = ("speech", "pose", "blink")
FRAMES_AT_ONCE = 8
# of the description, or a part of it
Facts = Mapping[str, Any]


class TorchNoise:
    """Standard normal numbers, those of torch's generator on a CPU but for rounding: both are a Mersenne Twister.

    Args:
        seed: As of `torch.Generator.manual_seed`.
    """

    def __init__(self, seed: int) -> None:
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)

    def draw(self, *shape: int) -> np.ndarray:
        """Draw an array of float32, of 16 numbers at least."""
        count = int(np.prod(shape))
        if count < 16:
            raise ValueError(f"`shape` is {shape}, must have 16 numbers at least: torch draws fewer in another way")
        uniform = self._uniform(count)
        whole = count // 16 * 16
        numbers = np.empty(count, np.float32)
        numbers[:whole] = _normal_of(uniform[:whole])
        if whole < count:  # torch draws the last 16 once more
            numbers[-16:] = _normal_of(self._uniform(16))
        return numbers.reshape(shape)

    def _uniform(self, count: int) -> np.ndarray:
        bits = self._twister.randint(0, 2**32, size=count, dtype=np.uint32)
        return (bits & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)


def _normal_of(uniform: np.ndarray) -> np.ndarray:
    # Box-Muller; of each 16 numbers the first eight make radii, the others angles
    first, second = uniform.reshape(-1, 2, 8).transpose(1, 0, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), np.float32(2 * np.pi) * second
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)


def denoise(
    facts: Facts, step: Facts, motion: np.ndarray, prediction: np.ndarray, fresh: np.ndarray | int
) -> np.ndarray:
    """Go from one time to the next, where the denoiser learned a diffusion.

    Args:
        facts: The description, of which `prediction`, `threshold` and `bound` count.
        step: The step of the description.
        motion: Noisy motion (1, 3, F, h, w).
        prediction: What the denoiser says of it.
        fresh: Noise to add; 0: none.

    Returns:
        Less noisy motion.
    """
    signal, sigma = np.float32(step["signal"]), np.float32(step["sigma"])
    if facts["prediction"] == "epsilon":
        clean, noise = (motion - sigma * prediction) / signal, prediction
    elif facts["prediction"] == "sample":
        clean, noise = prediction, (motion - signal * prediction) / sigma
    else:
        clean, noise = signal * motion - sigma * prediction, signal * prediction + sigma * motion
    return weighted_sum((step["clean"], bound(facts, clean)), (step["noise"], noise), (step["fresh"], fresh))


def follow_flow(
    facts: Facts, step: Facts, known: list[np.ndarray], motion: np.ndarray, prediction: np.ndarray
) -> np.ndarray:
    """Go from one time to the next, where the denoiser learned flow matching.

    Args:
        facts: The description, of which `threshold` counts.
        step: The step of the description.
        known: The noise that was begun with, and the clean motion of every step; this step's is appended.
        motion: Noisy motion (1, 3, F, h, w).
        prediction: What the denoiser says of it, noise - motion.

    Returns:
        Less noisy motion.
    """
    known.append(bound(facts, motion - np.float32(step["sigma"]) * prediction))
    return weighted_sum(*zip(step["weights"], known, strict=True))


def bound(facts: Facts, clean: np.ndarray) -> np.ndarray:
    """Bound clean motion as the checkpoint's sampler does."""
    if facts["threshold"]:
        most = facts["threshold"]["most"] or np.inf
        limit = np.clip(np.quantile(np.abs(clean), facts["threshold"]["quantile"]), 1, most)
        return (np.clip(clean, -limit, limit) / limit).astype(np.float32)
    return np.clip(clean, -facts["bound"], facts["bound"]) if facts["bound"] else clean


def weighted_sum(*parts: tuple[float, np.ndarray | int]) -> np.ndarray:
    """Add arrays of float32, each multiplied by its weight."""
    return sum(np.float32(weight) * part for weight, part in parts)


class OnnxPipeline:
    """The graphs of a folder, and the stages of DAWN around them.

    Args:
        folder: What `dawn export-onnx` wrote.
        num_threads: Threads of onnxruntime; 0: as many as it likes.

    Raises:
        ValueError: The folder holds something else.
    """

    def __init__(self, folder: str | Path, num_threads: int = 0) -> None:
        file = Path(folder, "dawn_onnx.json")
        if not file.is_file():
            raise ValueError(f"`folder` {folder} has no dawn_onnx.json, must be what `dawn export-onnx` wrote")
        self.facts = json.loads(file.read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self._graphs = {
            name: onnxruntime.InferenceSession(
                str(Path(folder, f"{name}.onnx")), options, providers=["CPUExecutionProvider"]
            )
            for name in self.facts["graphs"]
        }

    def render(
        self, portrait: Portrait, waveform: Waveform, seed: int = 0, preset: str = "balanced"
    ) -> Iterator[np.ndarray]:
        """Make the frames of a clip.

        Args:
            portrait: The portrait.
            waveform: The speech.
            seed: Same seed, same video.
            preset: Sampler and steps, one of `facts["samplers"]`.

        Yields:
            Frames (up to 8, H, W, 3) in [0, 1], float32.

        Raises:
            ValueError: There is no such preset, or the recording is longer than 60 s.
        """
        if preset not in self.facts["samplers"]:
            raise ValueError(f"`preset` is {preset!r}, must be one of {', '.join(self.facts['samplers'])}")
        noise = TorchNoise(seed)
        features = self.encode_audio(waveform)
        num_frames = features.shape[1]
        pose, blink = (np.asarray(state, np.float32)[None] for state in (portrait.face.pose, portrait.face.blink))
        drawn = [noise.draw(1, num_frames, width) for width in self.facts["noise_widths"]]
        track = self.run("head_and_eyes", features, pose, blink, np.concatenate(drawn, axis=-1))

        image, person = self.image_of(portrait), self.person_of(portrait)
        encoded = self.run("portrait", image)
        conditions = (features, track[0] - pose[:, None], track[1] - blink[:, None])
        side = self.facts["image_size_px"] // self.facts["motion_stride_px"]
        motion = noise.draw(1, 3, num_frames, side, side)
        known = [motion]
        for step in self.facts["samplers"][preset]:
            prediction = self.predict(motion, step["time"], encoded[-1], self.face_mask_of(portrait), conditions)
            if self.facts["prediction"] == "flow_prediction":
                motion = follow_flow(self.facts, step, known, motion, prediction)
            else:
                fresh = noise.draw(*motion.shape) if step["fresh"] else 0
                motion = denoise(self.facts, step, motion, prediction, fresh)
        for first in range(0, num_frames, FRAMES_AT_ONCE):
            part = motion[:, :, first : first + FRAMES_AT_ONCE]
            (frames,) = self.run("frames", part, image, *encoded, *person)
            yield frames[0].transpose(0, 2, 3, 1)

    def encode_audio(self, waveform: Waveform) -> np.ndarray:
        """Compute the speech features of every frame (1, F, D)."""
        facts = self.facts["speech"]
        num_frames = max(1, round(len(waveform.samples) * self.facts["frames_per_s"] / waveform.sample_rate_hz))
        samples = resample(waveform, facts["sample_rate_hz"]).samples
        if facts["normalised"]:
            samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        reach, stride = facts["samples_of_first_frame"], facts["samples_per_frame"]
        samples = np.pad(samples, (0, max(0, reach - len(samples))))[None].astype(np.float32)
        num_hidden = (samples.shape[1] - reach) // stride + 1
        if num_hidden > facts["most_frames"]:
            most_s = facts["most_frames"] * stride / facts["sample_rate_hz"]
            raise ValueError(f"`waveform` lasts {waveform.duration_s:.1f} s, must be {most_s:.0f} s at most")
        piece = facts["frames_per_piece"]
        heard = [
            self.run("speech", samples[:, first * stride : (first + piece - 1) * stride + reach])[0][0]
            for first in range(0, num_hidden, piece)
        ]
        hidden = np.concatenate(heard)
        # linear between the encoder's frames, the ends aligned
        places = np.arange(num_frames) * (num_hidden - 1)
        left, rest = np.divmod(places, max(1, num_frames - 1))
        right = np.minimum(left + 1, num_hidden - 1)
        weight = (rest.astype(np.float32) / max(1, num_frames - 1))[:, None]
        return (hidden[left] + weight * (hidden[right] - hidden[left]))[None]

    def predict(
        self,
        motion: np.ndarray,
        time: float,
        reference: np.ndarray,
        mask: np.ndarray,
        conditions: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Ask the denoiser about noisy motion (1, 3, F, h, w), with guidance."""
        weights: Mapping[str, float] = self.facts["guidance"]

        def ask(without: tuple[str, ...] = ()) -> np.ndarray:
            told = [part * (name not in without) for name, part in zip(CONDITIONS, conditions, strict=True)]
            return self.run("denoiser", motion, np.array([time], np.float32), reference, mask, *told)[0]

        full = ask()
        if len(set(weights.values())) == 1:
            weight = weights["speech"]
            if weight == 1:
                return full
            null = ask(CONDITIONS)
            return null + np.float32(weight) * (full - null)
        guided = full
        for name, weight in weights.items():
            if weight != 1:
                guided = guided + np.float32(weight - 1) * (full - ask((name,)))
        return guided

    def image_of(self, portrait: Portrait) -> np.ndarray:
        """Resize a portrait to the graphs' size (1, 3, H, W)."""
        size = self.facts["image_size_px"]
        resized = np.asarray(Image.fromarray(portrait.image).resize((size, size), Image.Resampling.LANCZOS))
        return resized.transpose(2, 0, 1)[None].astype(np.float32) / 255

    def person_of(self, portrait: Portrait) -> list[np.ndarray]:
        """Say how much of every cell of the motion belongs to a person (1, 1, h, w), if backgrounds keep still."""
        if not self.facts["keeps_background"]:
            return []
        side = self.facts["image_size_px"] // self.facts["motion_stride_px"]
        if portrait.person is None:
            return [np.ones((1, 1, side, side), np.float32)]
        cells = Image.fromarray(portrait.person).resize((side, side), Image.Resampling.BOX)
        return [np.asarray(cells, np.float32)[None, None] / 255]

    def face_mask_of(self, portrait: Portrait) -> np.ndarray:
        """Draw the box of a portrait's face (1, 1, H, W)."""
        size, index = self.facts["image_size_px"], np.arange(self.facts["image_size_px"])
        left, right, top, bottom = np.asarray(portrait.face.box_px, np.float32)
        height, width = portrait.face.image_size
        columns = (index >= np.trunc(left * size / height)) & (index <= np.trunc(right * size / height) + 1)
        rows = (index >= np.trunc(top * size / width)) & (index <= np.trunc(bottom * size / width) + 1)
        return (rows[:, None] & columns[None]).astype(np.float32)[None, None]

    def run(self, name: str, *inputs: Any) -> list[np.ndarray]:
        """Run a graph; its inputs in the order of the description."""
        graph = self._graphs[name]
        return graph.run(None, {node.name: value for node, value in zip(graph.get_inputs(), inputs, strict=True)})


def main() -> None:
    """Read the files, render, and write the video."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="what `dawn export-onnx` wrote")
    parser.add_argument("--image", required=True, help="portrait: any picture with a face")
    parser.add_argument("--audio", required=True, help="speech: any file with sound")
    parser.add_argument("--output", "-o", required=True, help="the video to write, such as talking.mp4")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same video (default: 0)")
    parser.add_argument("--preset", default="balanced", help="quality, balanced (default) or fast")
    options = parser.parse_args()
    pipe = OnnxPipeline(options.folder)
    portrait = prepare_portrait(options.image, None, None, None, MediaPipeFaceDetector())
    if pipe.facts["keeps_background"]:
        portrait = with_person(portrait, PersonSegmenter())
    waveform = read_waveform(options.audio)
    frames = np.concatenate(list(pipe.render(portrait, waveform, options.seed, options.preset)))
    write_video(options.output, (frames * 255).round().astype(np.uint8), waveform)


if __name__ == "__main__":
    main()
