"""Calls of `dawn animate` with tiny inputs."""

from pathlib import Path

from diffusers_dawn.cli.command import main
from diffusers_dawn.media.video_writer import VideoWriter
from real_inputs import REAL
from synthetic_media import write_audio

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE_HZ = 16_000


def write_speech(path, samples):
    write_audio(path, samples[None], RATE_HZ, "pcm_s16le")


def animate(folder, output, **arguments):
    defaults = {
        "image": REAL / "portrait_1.jpeg",
        "audio": folder / "speech.wav",
        "checkpoint": folder / "tiny",
        "steps": 1,
        "device": "cpu",
    }
    words = ["animate", "-o", str(output)]
    for name, value in (defaults | arguments).items():
        if value is None:
            continue
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return main(words)


def written_frames(monkeypatch):
    """Frames as they come before the encoder, a batch each."""
    written, write = [], VideoWriter.write

    def write_and_remember(writer, frames):
        written.append(frames.copy())
        write(writer, frames)

    monkeypatch.setattr(VideoWriter, "write", write_and_remember)
    return written
