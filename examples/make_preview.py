"""Make the README's animated preview: a few portraits of this folder, side by side, say one recording.

    python examples/make_preview.py --output examples/preview.webp

Any other pipeline, portraits and recording can be given, too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusers_dawn import DAWNPipeline, demo_checkpoint
from diffusers_dawn.machine.output_places import check_place, part_beside, put_in_place
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.records import FPS

EXAMPLES = Path(__file__).parent
PORTRAITS = tuple(EXAMPLES / f"portrait_{number}.png" for number in (1, 2, 3, 4))
QUALITY = 42


def render_row(
    pipe: DAWNPipeline, portraits: Sequence[Path], speech: Path, preset: str | None, seed: int
) -> np.ndarray:
    """Let portraits say a recording, each with head motion and blinks of its own.

    Args:
        pipe: The pipeline.
        portraits: Pictures.
        speech: Recording.
        preset: See `DAWNPipeline.__call__`.
        seed: Same seed, same frames.

    Returns:
        Frames (F, H, W * portraits, 3), uint8.

    Raises:
        ValueError: A file cannot be read or shows no face, or there is no such preset.
    """
    waveform = read_waveform(speech)
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(portraits))]
    clips = [
        pipe(portrait, waveform, preset=preset, generator=generator, output_type="np").frames[0]
        for portrait, generator in zip(portraits, generators, strict=True)
    ]
    return (np.concatenate(clips, axis=2) * 255).round().astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 refused.
    """
    parser = argparse.ArgumentParser(description="Make an animated preview of talking portraits.")
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="saved pipeline (default: the shipped one)")
    parser.add_argument("--portraits", type=Path, nargs="+", default=PORTRAITS, help="pictures, from left to right")
    parser.add_argument("--speech", type=Path, default=EXAMPLES / "speech_1.wav", help="what they say")
    parser.add_argument("--preset", help="sampler and steps: quality, balanced (default), fast")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same preview (default: 0)")
    parser.add_argument("--output", type=Path, required=True, help="the .webp to write")
    options = parser.parse_args(arguments)
    if options.output.suffix != ".webp":
        parser.error(f"`--output` is {options.output}, must end in .webp")
    try:
        check_place(options.output, "output")
        pipe = DAWNPipeline.from_pretrained(options.checkpoint)
        frames = render_row(pipe, options.portraits, options.speech, options.preset, options.seed)
        first, *others = map(Image.fromarray, frames)
        animation = {"save_all": True, "append_images": others, "duration": 1000 // FPS, "loop": 0}
        with part_beside(options.output) as part:
            first.save(part, **animation, quality=QUALITY, method=6)
            put_in_place(part, options.output)
    except (ValueError, OSError, ImportError) as error:
        print(f"make_preview: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.output}: {len(frames)} frames, {options.output.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
