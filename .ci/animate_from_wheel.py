"""Animate an example with the package of a built wheel: everything that it needs must be in there."""

import sys
import tempfile
from pathlib import Path

import diffusers_dawn
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS

wheel, examples = map(Path, sys.argv[1:])
SPEECH_SECONDS = 4

installed = Path(diffusers_dawn.__file__).parent
if not installed.is_relative_to(wheel.resolve()):
    sys.exit(f"diffusers_dawn comes from {installed}, not from the wheel")
with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    video = folder / "talking.mp4"
    given = ["--image", str(examples / "portrait_1.png"), "--audio", str(examples / "speech_1.wav")]
    for command in (
        ["animate", *given, "--preset", "fast", "-o", str(video)],
        ["init", "--size", "tiny", "-o", str(folder / "pipeline")],
        ["export-community", str(folder / "dawn.py")],
    ):
        if main(command):
            sys.exit(f"dawn {command[0]} failed")
    num_frames = count_video_frames(video, FPS)
    if num_frames != SPEECH_SECONDS * FPS:
        sys.exit(f"{SPEECH_SECONDS} s of sound became {num_frames} frames")
print(f"animated {num_frames} frames from {installed}")
