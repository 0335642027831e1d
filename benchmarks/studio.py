"""Measure the studio: seconds from the click to the video, as a client of the page sees them.

The page is served on this machine. The clock starts with the click, and stops when the whole video has arrived. What a
browser needs to show it is not counted. Beside it stand these seconds per second of video, and as a multiple of what
the same job takes without the page.

    python benchmarks/studio.py                                    # 8 s of speech, by the checkpoint that ships
    python benchmarks/studio.py --seconds 1 --presets fast         # to try the script
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from gradio_client import Client, handle_file

from batch import EXAMPLES, write_speech
from diffusers_dawn import Studio, demo_checkpoint, launch_page, make_page
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS
from diffusers_dawn.studio.settings import Settings
from report import Table, add_allocator_option, set_up_process

# a busy machine answers late
PATIENT = {"timeout": 600}


def seconds_of_click(client: Client, name: str, files: tuple[Path, Path], preset: str) -> float:
    """Click on a button; returns the seconds until its video has arrived."""
    given = [handle_file(str(file)) for file in files]
    start_s = time.perf_counter()
    video = client.predict(*given, preset=preset, api_name=f"/{name}")[0]
    seconds = time.perf_counter() - start_s
    if not Path(video).stat().st_size:
        raise SystemExit(f"{name}: the video is empty")
    return seconds


def seconds_of_job(studio: Studio, files: tuple[Path, Path], preset: str) -> float:
    """Render the same without the page; returns the seconds."""
    start_s = time.perf_counter()
    studio.animate(*map(str, files), Settings(preset=preset))
    return time.perf_counter() - start_s


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="saved pipeline (default: the shipped one)")
    parser.add_argument("--image", type=Path, default=EXAMPLES / "portrait_1.png", help="portrait")
    parser.add_argument("--audio", type=Path, default=EXAMPLES / "speech_1.wav", help="recording, repeated as needed")
    parser.add_argument("--seconds", type=float, default=8, help="length of the video")
    parser.add_argument("--presets", nargs="+", choices=[*PRESETS], default=[DEFAULT_PRESET, "fast"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1, help="clicks; medians are printed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    add_allocator_option(parser, default="kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for and print it."""
    args = parse_arguments(arguments)
    set_up_process(args.threads, args.allocator)
    studio = Studio(args.checkpoint, device=args.device)
    page = make_page(studio)
    table = Table(
        f"{args.seconds:g} s of speech, {Path(args.checkpoint).name}, {args.device}, {args.threads} threads; seconds, "
        f"medians of {args.repeats}",
        ["preset", "click to video", "per s of video", "times without the page", "click to preview"],
    )
    try:
        _, url, _ = launch_page(page, studio, prevent_thread_lock=True, _frontend=False)
        with tempfile.TemporaryDirectory() as folder:
            files = args.image, Path(folder, "speech.wav")
            write_speech(files[1], args.audio, args.seconds)
            client = Client(url, verbose=False, download_files=folder, httpx_kwargs=PATIENT)
            # as on the page, where the portrait is looked at once it is chosen
            studio.find_face(str(args.image), Settings())
            for preset in args.presets:
                runs = [
                    (
                        seconds_of_click(client, "animate", files, preset),
                        seconds_of_job(studio, files, preset),
                        seconds_of_click(client, "preview", files, preset),
                    )
                    for _ in range(args.repeats)
                ]
                video_s, job_s, preview_s = (median(column) for column in zip(*runs, strict=True))
                table.add(preset, video_s, video_s / args.seconds, video_s / job_s, preview_s)
    finally:
        page.close()
        studio.close()
    print(describe_machine())
    print(table)


if __name__ == "__main__":
    main()
