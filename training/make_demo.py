"""Reproduce dawn-demo, the checkpoint that ships with the package, from nothing but this repository.

    python training/make_demo.py --work demo --export demo/checkpoint

The same command goes on after a stop, with any stage where it was. Hours on two CPU cores are many; a GPU is used
where there is one.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import json
import shlex
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.pbnet import PoseBlinkNet
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sharing.checkpoint_folder import check_new_folder, save_new
from training.engine import commands
from training.engine.processes import run_command

TRAINING = Path(__file__).resolve().parent
CONFIGS = TRAINING / "configs" / "demo"
SEED = 0
NUM_TRAIN_CLIPS, NUM_TEST_CLIPS = 600, 100
CLIP_SECONDS = 4
NUM_LONG = 4
MAX_BYTES = 40_000_000


class Stage(NamedTuple):
    """One command of the recipe.

    Attributes:
        name: What it makes.
        command: Words of the command.
    """

    name: str
    command: list[str]


def recipe(work: Path, num_processes: int) -> list[Stage]:
    """List the commands that make dawn-demo, in order.

    Args:
        work: Folder of everything that they write.
        num_processes: Workers that draw the clips.

    Returns:
        The stages; each goes on where it was stopped, and does nothing where it is done.
    """
    clips, runs = work / "clips", work / "runs"

    def train(name: str, *extra: str) -> Stage:
        script = [sys.executable, "-m", "accelerate.commands.launch", str(TRAINING / f"train_{name}.py")]
        settings = ["--config", str(CONFIGS / f"{name}.yaml"), "--dataset", str(clips), "--seed", str(SEED)]
        written = ["--output_dir", str(runs / name), "--resume_from_checkpoint", "latest"]
        return Stage(name, [*script, *settings, *written, *extra])

    draw = [sys.executable, str(TRAINING / "make_synthetic_clips.py"), "--output", str(clips), "--augment_audio"]
    numbers = {
        "num_clips": NUM_TRAIN_CLIPS,
        "num_identities": NUM_TRAIN_CLIPS,
        "test_clips": NUM_TEST_CLIPS,
        "test_identities": NUM_TEST_CLIPS,
        "seconds": CLIP_SECONDS,
        "size": 128,
        "seed": SEED,
        "num_processes": num_processes,
    }
    options = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    measure = [sys.executable, str(TRAINING / "evaluate.py"), "--pipeline", str(runs / "a2v" / "pipeline")]
    return [
        Stage("clips", [*draw, *options, "--audio_encoder", str(CONFIGS / "audio_encoder.yaml")]),
        train("lfg"),
        train("pbnet"),
        train("a2v", "--lfg", str(runs / "lfg"), "--pbnet", str(runs / "pbnet")),
        Stage(
            "evaluation",
            [*measure, "--dataset", str(clips), "--num_clips", str(NUM_TEST_CLIPS), "--num_long", str(NUM_LONG)]
            + ["--output", str(work / "evaluation"), "--reader_processes", str(num_processes), "--seed", str(SEED)]
            + ["--preset", "fast"],
        ),
    ]


def run_recipe(stages: Sequence[Stage], work: Path) -> None:
    """Run the stages, and note how long each took, stops included, in `hours.json`.

    Args:
        stages: The commands.
        work: Folder of the note.

    Raises:
        ValueError: A command failed.
    """
    notes = work / "hours.json"
    hours = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    for stage in stages:
        print(f"{stage.name}: {shlex.join(stage.command)}", flush=True)
        began = time.monotonic()
        code = run_command(stage.command)
        hours[stage.name] = round(hours.get(stage.name, 0) + (time.monotonic() - began) / 3600, 3)
        work.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(hours, indent=1) + "\n", encoding="utf-8")
        if code:
            raise ValueError(f"the stage `{stage.name}` ended with code {code}; the same command goes on")


def export(pipeline: Path, folder: Path) -> int:
    """Save a trained pipeline as it ships: half precision, without code, and without what only training needs.

    Args:
        pipeline: Folder of the pipeline.
        folder: New folder for it.

    Returns:
        Bytes of its weights.

    Raises:
        ValueError: It would be larger than what ships, 40 MB, or `folder` is there and not empty.
    """
    check_new_folder(folder)
    pipe = DAWNPipeline.from_pretrained(pipeline)
    lfg = LatentFlowGenerator.from_config(pipe.lfg.config, with_motion_estimator=False)
    lfg.load_state_dict({name: pipe.lfg.state_dict()[name] for name in lfg.state_dict()})
    pbnet = PoseBlinkNet.from_config(pipe.pbnet.config, with_encoder=False)
    pbnet.load_state_dict({name: pipe.pbnet.state_dict()[name] for name in pbnet.state_dict()})
    with TemporaryDirectory() as scratch:
        DAWNPipeline(**(pipe.components | {"lfg": lfg, "pbnet": pbnet})).save_pretrained(scratch)
        # loading, unlike casting, keeps what needs more digits than half precision has
        small = DAWNPipeline.from_pretrained(scratch, dtype=torch.float16)
    num_bytes = sum(
        tensor.numel() * tensor.element_size()
        for part in small.components.values()
        if isinstance(part, torch.nn.Module)
        for tensor in part.state_dict().values()
    )
    if num_bytes > MAX_BYTES:
        raise ValueError(f"the weights take {num_bytes / 1e6:.1f} MB, must be at most {MAX_BYTES / 1e6:.0f}")
    save_new(small, folder)
    # the package that it ships in is its code, and nobody has the folder that it was made in
    for path in folder.rglob("*.py"):
        path.unlink()
    for path in folder.rglob("*.json"):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return num_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 a stage failed, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description="Reproduce dawn-demo from nothing.")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and figures")
    parser.add_argument("--export", type=Path, help="folder for the pipeline as it ships")
    parser.add_argument("--num_processes", type=int, default=2, help="workers that draw clips (default: 2)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args(arguments)
    stages = recipe(options.work, options.num_processes)
    if options.dry_run:
        print("\n".join(shlex.join(stage.command) for stage in stages))
        return 0

    def make() -> None:
        run_recipe(stages, options.work)
        if options.export is not None:
            num_bytes = export(options.work / "runs" / "a2v" / "pipeline", options.export)
            print(f"wrote {options.export}: {num_bytes / 1e6:.1f} MB of weights")

    return commands.run("make_demo", make)


if __name__ == "__main__":
    commands.program(main)
