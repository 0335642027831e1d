"""Animate a picture with the package of a built wheel: everything that it needs must be in there."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import diffusers_dawn
from diffusers_dawn import DAWNPipeline, FaceState
from diffusers_dawn.cli import main
from diffusers_dawn.media import count_video_frames
from diffusers_dawn.records import FPS
from diffusers_dawn.video_writer import write_video

installed = Path(diffusers_dawn.__file__).parent
if not installed.is_relative_to(Path(sys.argv[1]).resolve()):
    sys.exit(f"diffusers_dawn comes from {installed}, not from the wheel")
sound = np.sin(np.arange(16_000) / 20).astype(np.float32)
face = FaceState(pose=[0, 0, 0, 4.8e-4, 60, 70], blink=[0.3, 0.3], box_px=(16, 48, 18, 54), image_size=(64, 64))
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    if main(["init", "--size", "tiny", "-o", str(folder / "pipeline")]):
        sys.exit("dawn init failed")
    if main(["export-community", str(folder / "dawn.py")]):
        sys.exit("dawn export-community failed")
    pipe = DAWNPipeline.from_pretrained(folder / "pipeline")
    picture = np.full((64, 64, 3), 128, np.uint8)
    out = pipe(picture, sound, 16_000, face=face, output_type="np", generator=torch.Generator().manual_seed(0))
    write_video(folder / "talking.mp4", (out.frames[0] * 255).round().astype("uint8"), out.waveform())
    num_frames = count_video_frames(folder / "talking.mp4", FPS)
    if num_frames != FPS:
        sys.exit(f"1 s of sound became {num_frames} frames, not {FPS}")
print(f"animated {num_frames} frames from {installed}")
