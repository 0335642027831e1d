"""DAWN as nodes of ComfyUI: checkpoint, portrait, speech, motion, render, save.

What passes between them: IMAGE, float32 (B, H, W, 3) in [0, 1]; AUDIO, {"waveform": (B, C, N), "sample_rate": Hz}; and
types of this pack, whose names begin with DAWN. ComfyUI's own modules are imported where they are used.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusers_dawn import (
    DAWNPipeline,
    Keyframe,
    MotionTrack,
    Portrait,
    Waveform,
    demo_checkpoint,
    read_motion,
    read_waveform,
    write_video,
)
from diffusers_dawn.cli.options import DTYPES
from diffusers_dawn.pipeline.clip_tensors import fit_samples
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS

CATEGORY = "DAWN"
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
CROPS = {"as needed": None, "always": True, "never": False}
KEYFRAMES = "0.5: pitch_deg 8\n1.0: pitch_deg 0, yaw_deg 15\n2.0:"


class LoadCheckpoint:
    """Load a saved DAWN pipeline onto ComfyUI's device."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_PIPELINE",), ("pipeline",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        place = {"default": "", "tooltip": "folder or id on the Hub; empty: the one that ships"}
        return {"required": {"checkpoint": ("STRING", place), "dtype": (list(DTYPES),)}}

    def load(self, checkpoint: str, dtype: str) -> tuple[DAWNPipeline]:
        """Load the pipeline."""
        from comfy.model_management import get_torch_device

        pipe = DAWNPipeline.from_pretrained(checkpoint.strip() or demo_checkpoint(), dtype=getattr(torch, dtype))
        pipe.set_progress_bar_config(disable=True)  # ComfyUI shows its own
        return (pipe.to(get_torch_device()),)


class PreparePortrait:
    """Find the face in a picture, and cut out the square that DAWN animates."""

    CATEGORY, FUNCTION = CATEGORY, "prepare"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_PORTRAIT", "IMAGE"), ("portrait", "square")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        index = {"default": 0, "min": 0, "max": 100, "tooltip": "counted from the largest face"}
        return {
            "required": {
                "pipeline": ("DAWN_PIPELINE",),
                "image": ("IMAGE",),
                "face_index": ("INT", index),
                "crop": (list(CROPS),),
            }
        }

    def prepare(
        self, pipeline: DAWNPipeline, image: torch.Tensor, face_index: int, crop: str
    ) -> tuple[Portrait, torch.Tensor]:
        """Prepare the first picture of the batch."""
        picture = (image[0, :, :, :3].clamp(0, 1) * 255).round().byte().cpu().numpy()
        # 0, the largest, is what the pipeline takes by itself, and says less about
        portrait = pipeline.prepare_portrait(picture, face_index=face_index or None, crop=CROPS[crop])
        return portrait, torch.from_numpy(portrait.image)[None].float() / 255


class EncodeSpeech:
    """Turn a recording into speech features at 25 frames per second."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_SPEECH",), ("speech",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        return {"required": {"pipeline": ("DAWN_PIPELINE",), "audio": ("AUDIO",)}}

    def encode(self, pipeline: DAWNPipeline, audio: dict) -> tuple[tuple[Waveform, torch.Tensor]]:
        """Encode the first recording of the batch; its channels are mixed."""
        samples = audio["waveform"][0].float().mean(0).cpu().numpy()
        waveform = read_waveform(samples, int(audio["sample_rate"]))
        return ((waveform, pipeline.encode_audio(waveform)),)


class PredictMotion:
    """Make head pose and blinks from speech by PBNet."""

    CATEGORY, FUNCTION = CATEGORY, "predict"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_MOTION",), ("motion",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        temperature = {"default": 1.0, "min": 0.0, "max": 3.0, "step": 0.05, "tooltip": "factor of PBNet's noise"}
        return {
            "required": {
                "pipeline": ("DAWN_PIPELINE",),
                "portrait": ("DAWN_PORTRAIT",),
                "speech": ("DAWN_SPEECH",),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED}),
                "temperature": ("FLOAT", temperature),
            }
        }

    def predict(
        self, pipeline: DAWNPipeline, portrait: Portrait, speech: tuple, seed: int, temperature: float
    ) -> tuple[MotionTrack]:
        """Make one track."""
        generator = torch.Generator().manual_seed(seed)
        arguments = {"num_candidates": 1, "temperature": temperature, "generator": generator}
        return (pipeline.propose_motion(portrait, speech[0], **arguments)[0],)


class MotionFromVideo:
    """Take head pose and blinks from the face in a video file."""

    CATEGORY, FUNCTION = CATEGORY, "take"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_MOTION",), ("motion",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        path = {"default": "", "tooltip": "path of a video with a face"}
        return {
            "required": {"pipeline": ("DAWN_PIPELINE",), "speech": ("DAWN_SPEECH",), "video": ("STRING", path)},
        }

    def take(self, pipeline: DAWNPipeline, speech: tuple, video: str) -> tuple[MotionTrack]:
        """Follow the face in as many frames as the speech has."""
        path = Path(video.strip())
        if not path.is_file():
            raise ValueError(f"`video` is {video!r}, must be a video file")
        return (read_motion(path, num_frames=len(speech[1]), detector=pipeline.detect_faces, name="video"),)


class MotionKeyframes:
    """Move the head of a track to given angles at given times."""

    CATEGORY, FUNCTION = CATEGORY, "direct"
    RETURN_TYPES, RETURN_NAMES = ("DAWN_MOTION",), ("motion",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        text = {"default": KEYFRAMES, "multiline": True, "tooltip": "a line per time: 'seconds: name value, ...'"}
        return {"required": {"motion": ("DAWN_MOTION",), "keyframes": ("STRING", text)}}

    def direct(self, motion: MotionTrack, keyframes: str) -> tuple[MotionTrack]:
        """Direct the track."""
        return (motion.with_keyframes(read_keyframes(keyframes)),)


class Render:
    """Denoise the motion of all frames, and draw them."""

    CATEGORY, FUNCTION = CATEGORY, "render"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "AUDIO", "FLOAT"), ("frames", "audio", "fps")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        speech = {"default": 0.0, "min": 0.0, "max": 10.0, "step": 0.1, "tooltip": "0: the checkpoint's own"}
        return {
            "required": {
                "pipeline": ("DAWN_PIPELINE",),
                "portrait": ("DAWN_PORTRAIT",),
                "speech": ("DAWN_SPEECH",),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED}),
                "preset": (list(PRESETS), {"default": DEFAULT_PRESET}),
                "speech_guidance": ("FLOAT", speech),
                "head_motion": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}),
            },
            "optional": {"motion": ("DAWN_MOTION",)},
        }

    def render(
        self,
        pipeline: DAWNPipeline,
        portrait: Portrait,
        speech: tuple,
        seed: int,
        preset: str,
        speech_guidance: float,
        head_motion: float,
        motion: MotionTrack | None = None,
    ) -> tuple[torch.Tensor, dict, float]:
        """Render the clip; ComfyUI's button for cancelling ends it between two steps."""
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.utils import ProgressBar

        waveform, features = speech
        settings = {"preset": preset, "guidance_scale": {"speech": speech_guidance} if speech_guidance else None}
        bar = ProgressBar(pipeline.plan(len(features), **settings).request.num_inference_steps)

        def after_step(_pipe: Any, _step: int, _time: Any, _tensors: dict) -> dict:
            bar.update(1)
            throw_exception_if_processing_interrupted()
            return {}

        out = pipeline(
            portrait,
            audio_embeds=features.to(pipeline.device),
            motion=f"head motion {head_motion}" if motion is None else motion.scaled(head=head_motion),
            output_type="pt",
            generator=torch.Generator().manual_seed(seed),
            callback_on_step_end=after_step,
            **settings,
        )
        samples = torch.from_numpy(fit_samples(waveform, len(features)))
        audio = {"waveform": samples[None, None], "sample_rate": waveform.sample_rate_hz}
        return out.frames[0].permute(0, 2, 3, 1).float().cpu(), audio, float(out.fps)


class SaveVideo:
    """Write frames and sound as a video into ComfyUI's output folder; the file says that it is synthetic."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "save", True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Describe the inputs."""
        return {
            "required": {
                "frames": ("IMAGE",),
                "audio": ("AUDIO",),
                "filename_prefix": ("STRING", {"default": "DAWN"}),
            }
        }

    def save(self, frames: torch.Tensor, audio: dict, filename_prefix: str) -> dict:
        """Write the video, and tell ComfyUI what to show."""
        import folder_paths

        height, width = frames.shape[1:3]
        place = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory(), width, height)
        folder, name, counter, subfolder, _ = place
        file = f"{name}_{counter:05}_.mp4"
        pictures = (frames.clamp(0, 1) * 255).round().byte().cpu().numpy()
        samples = np.asarray(audio["waveform"][0].mean(0).cpu(), np.float32)
        write_video(Path(folder, file), pictures, Waveform(samples, int(audio["sample_rate"])))
        return {"ui": {"images": [{"filename": file, "subfolder": subfolder, "type": "output"}], "animated": (True,)}}


def read_keyframes(text: str) -> list[Keyframe]:
    """Read keyframes.

    Args:
        text: A line per time, "seconds: name value, name value"; nothing behind the colon: back to what it was.

    Returns:
        The keyframes.

    Raises:
        ValueError: A line is of another form, or has a number that is not allowed.
    """
    keyframes = []
    for line in filter(str.strip, text.splitlines()):
        time_s, colon, rest = line.partition(":")
        try:
            pairs = [pair.split() for pair in rest.split(",") if pair.strip()]
            values = {name: float(value) for name, value in pairs}
            if not colon:
                raise ValueError
            at_s = float(time_s)
        except ValueError:
            raise ValueError(
                f"`keyframes` has the line {line!r}, must be of the form '1.5: yaw_deg 10, eyes 0'"
            ) from None
        keyframes.append(Keyframe(at_s, values or None))
    return keyframes


NODE_CLASS_MAPPINGS = {
    "DAWNLoadCheckpoint": LoadCheckpoint,
    "DAWNPreparePortrait": PreparePortrait,
    "DAWNEncodeSpeech": EncodeSpeech,
    "DAWNPredictMotion": PredictMotion,
    "DAWNMotionFromVideo": MotionFromVideo,
    "DAWNMotionKeyframes": MotionKeyframes,
    "DAWNRender": Render,
    "DAWNSaveVideo": SaveVideo,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "DAWNLoadCheckpoint": "DAWN: load checkpoint",
    "DAWNPreparePortrait": "DAWN: portrait to face",
    "DAWNEncodeSpeech": "DAWN: speech to features",
    "DAWNPredictMotion": "DAWN: motion from speech",
    "DAWNMotionFromVideo": "DAWN: motion from video",
    "DAWNMotionKeyframes": "DAWN: motion by keyframes",
    "DAWNRender": "DAWN: render",
    "DAWNSaveVideo": "DAWN: save video",
}
