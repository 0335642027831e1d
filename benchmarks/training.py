"""Measure the trainings: steps per second, peak memory, and the share of time spent on reading data.

Each row is a process of its own that trains on a few synthetic clips, which are made first. The published size is
that of `training/configs/`, the toy size that of `training/configs/toy/`. Batches are as small as the command line
says, and data are read in the training process itself, so that what worker processes would hide is shown.

With `--arithmetic` it counts instead, by one step with one sample, what the published runs cost in all, and the hours
that is at a sustained rate.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# `training` is not installed with the package, and would be this very file
sys.path = [str(ROOT), *(path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import Dataset  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor  # noqa: E402

from training.data.dataset_info import DatasetInfo, write_dataset_info  # noqa: E402
from training.data.shard_journal import shard_path  # noqa: E402
from training.data.shard_writing import write_shard  # noqa: E402
from training.engine.config import TrainingConfig, parse_config  # noqa: E402
from training.engine.loop import Stage, train  # noqa: E402
from training.engine.training_plan import Draw  # noqa: E402
from training.synthetic.talking_head import identity_seed, make_talking_head  # noqa: E402
from training.train_a2v import A2VConfig, A2VStage  # noqa: E402
from training.train_audio_encoder import AudioEncoderConfig, AudioEncoderStage  # noqa: E402
from training.train_lfg import LFGConfig, LFGStage  # noqa: E402
from training.train_pbnet import PBNetConfig, PBNetStage  # noqa: E402

CONFIGS = ROOT / "training" / "configs"
MIB = 2**20
NUM_CLIPS, NUM_FRAMES = 4, 75


class Measured(NamedTuple):
    """A stage and its settings by size.

    Attributes:
        config_class: The stage's settings.
        stage_class: The stage.
        published: Settings of the published size.
        toy: Settings of the toy size.
        batch_size: Samples per step that are measured by default.
    """

    config_class: type[TrainingConfig]
    stage_class: type[Stage]
    published: str
    toy: str
    batch_size: int


STAGES = {
    "lfg": Measured(LFGConfig, LFGStage, "lfg_128.yaml", "toy/lfg.yaml", 4),
    "pbnet": Measured(PBNetConfig, PBNetStage, "pbnet_pose.yaml", "toy/pbnet.yaml", 8),
    "a2v": Measured(A2VConfig, A2VStage, "a2v_128_stage1.yaml", "toy/a2v.yaml", 1),
    "audio_encoder": Measured(
        AudioEncoderConfig, AudioEncoderStage, "toy/audio_encoder.yaml", "toy/audio_encoder.yaml", 4
    ),
}
# pixels, and width of the audio features
SIZES = {"published": (128, 1024), "toy": (128, 192)}
PRECISIONS = {"fp32": "no", "bf16": "bf16"}
# published settings, and the stage they are of
PUBLISHED_RUNS = {
    "lfg_128": "lfg",
    "pbnet_pose": "pbnet",
    "pbnet_blink": "pbnet",
    "a2v_128_stage1": "a2v",
    "a2v_128_stage2": "a2v",
}


class TimedSamples(Dataset):
    """A data set that adds up how long its samples take.

    Args:
        samples: The data set.
    """

    def __init__(self, samples: Dataset) -> None:
        self.samples, self.seconds = samples, 0.0
        if hasattr(samples, "draw_num_frames"):
            self.draw_num_frames = samples.draw_num_frames

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Draw a sample."""
        began_s = time.perf_counter()
        sample = self.samples[draw]
        self.seconds += time.perf_counter() - began_s
        return sample


def make_data_set(folder: Path, size: str) -> Path:
    """Make a few clips, with random numbers for audio features."""
    folder.mkdir()
    size_px, audio_dim = SIZES[size]
    write_dataset_info(folder, DatasetInfo(size_px, "none", audio_dim))

    def make_clip(clip_id: str):
        seed = int(clip_id.split("-")[1])
        clip = make_talking_head(identity_seed(seed, "train"), seed, "train", size_px, NUM_FRAMES, clip_id)
        features = np.random.default_rng(seed).normal(size=(NUM_FRAMES, audio_dim))
        clip.labels["audio_features"] = features.astype(np.float16)
        return clip

    write_shard(shard_path(folder, "train", 0), [f"clip-{number}" for number in range(NUM_CLIPS)], make_clip)
    return folder


def build(args: argparse.Namespace, folder: Path) -> tuple[Stage, TrainingConfig]:
    """Build a stage from its published or toy settings, with everything random that it needs."""
    overrides = {
        "output_dir": folder / "out",
        "train_batch_size": args.batch_size or STAGES[args.measure].batch_size,
        "max_train_steps": args.steps + 1,
        "checkpointing_steps": args.steps + 2,
        "dataloader_num_workers": 0,
        "num_validation_clips": 0,
        "validation_steps": "null",
        "report_to": "none",
        "mixed_precision": PRECISIONS[args.precision],
    }
    if args.measure != "audio_encoder":
        overrides["dataset"] = args.data
    if args.measure == "lfg":
        overrides["landmark_warmup_epochs"] = 0  # its steps are a tenth of the others' work
    if args.measure == "a2v":
        overrides["gradient_checkpointing"] = str(args.gradient_checkpointing).lower()
        overrides["lfg"], overrides["audio_encoder"] = folder / "lfg", folder / "audio_encoder"
        LFGStage(read_config("lfg", args.size, dataset=args.data, output_dir=folder)).lfg.save_pretrained(
            folder / "lfg"
        )
        save_audio_encoder(folder / "audio_encoder", SIZES[args.size][1])
    config = read_config(args.measure, args.size, args.settings, **overrides)
    return STAGES[args.measure].stage_class(config), config


def read_config(stage: str, size: str, settings: str | None = None, **overrides: object) -> TrainingConfig:
    """Read a stage's settings of a size, or those of a name, changed where this needs it."""
    by_size = STAGES[stage].published if size == "published" else STAGES[stage].toy
    file = CONFIGS / (by_size if settings is None else f"{settings}.yaml")
    arguments = ["--config", str(file), *(f"--{name}={value}" for name, value in overrides.items())]
    return parse_config(STAGES[stage].config_class, "", arguments)[0]


def save_audio_encoder(folder: Path, width: int) -> None:
    """Save a HuBERT of one layer; it stands in the pipeline, and is not run."""
    config = HubertConfig(
        hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def peak_memory_bytes() -> int:
    """Read the largest memory this process has held so far: its tensors on a GPU, else all of it."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_bytes() -> int:
    """Read the memory this process holds now."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Train for some steps; the first, which allocates and compiles, does not count."""
    with tempfile.TemporaryDirectory() as folder:
        before = memory_bytes()
        stage, config = build(args, Path(folder))
        samples = TimedSamples(stage.samples())
        stage.samples = lambda: samples
        times_s, loading_s = [], []

        def note(*_: object) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times_s.append(time.perf_counter())
            loading_s.append(samples.seconds)

        # before each step's first objective, hence before all its computing and after its reading
        next(iter(stage.objectives.values())).register_forward_pre_hook(note)
        train(stage, config)
    seconds = (times_s[-1] - times_s[0]) / args.steps
    return {
        "seconds": seconds,
        "loading": (loading_s[-1] - loading_s[0]) / args.steps / seconds,
        "memory": peak_memory_bytes() - before,
        "batch": config.train_batch_size,
        "parameters": sum(
            parameter.numel() for network in stage.networks.values() for parameter in network.parameters()
        ),
    }


def count(args: argparse.Namespace, stage_name: str, settings: str, data: Path) -> int:
    """Count the floating-point operations of a step with one sample: matrix products and convolutions, both ways."""
    changes = {"measure": stage_name, "size": "published", "precision": "fp32", "settings": settings, "data": data}
    one_step = argparse.Namespace(**vars(args) | changes | {"steps": 0, "batch_size": 1})
    # no bars of progress between the rows
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        stage, config = build(one_step, Path(folder))
        with FlopCounterMode(display=False) as counter:
            train(stage, config)
    return counter.get_total_flops()


def num_published_samples(settings: str, num_clips: int) -> int:
    """Count the samples of a published run: steps by batch, or passes over the clips."""
    required = {"dataset": "none", "output_dir": "none"}
    required |= {"lfg": "none"} if PUBLISHED_RUNS[settings] == "a2v" else {}
    config = read_config(PUBLISHED_RUNS[settings], "published", settings, **required)
    if config.max_train_steps is not None:
        return config.max_train_steps * config.train_batch_size
    return round(config.num_train_epochs * config.clip_repeats * num_clips)


def print_arithmetic(args: argparse.Namespace) -> None:
    """Print what the published runs cost, and how long that takes."""
    print(f"{args.num_clips} clips; hours at {args.sustained_tflops:g} TFLOP/s sustained")
    print(f"{'run':16}{'samples':>14}{'GFLOP each':>12}{'EFLOP':>9}{'hours':>9}")
    with tempfile.TemporaryDirectory() as folder:
        data = make_data_set(Path(folder, "data"), "published")
        for settings, stage in ((name, stage) for name, stage in PUBLISHED_RUNS.items() if stage in args.stages):
            samples, each = num_published_samples(settings, args.num_clips), count(args, stage, settings, data)
            hours = samples * each / (args.sustained_tflops * 1e12) / 3600
            cost = f"{samples:>14,}{each / 1e9:>12.4g}{samples * each / 1e18:>9.3g}{hours:>9.3g}"
            print(f"{settings:16}{cost}", flush=True)


def measure_in_new_process(args: argparse.Namespace, stage: str, size: str, precision: str, data: Path) -> dict:
    """Measure one row in a process of its own."""
    command = [sys.executable, __file__, "--measure", stage, "--size", size, "--precision", precision]
    command += ["--steps", str(args.steps), "--data", str(data)]
    command += ["--batch-size", str(args.batch_size)] if args.batch_size else []
    command += ["--gradient-checkpointing"] if args.gradient_checkpointing else []
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{stage}, {size}, {precision} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def print_machine() -> None:
    """Name what the figures depend on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    packages = ("torch", "diffusers", "accelerate")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    load = os.getloadavg()[0]
    print(f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load {load:.1f}; {versions}")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=4, help="timed steps, after a first untimed one")
    parser.add_argument("--batch-size", type=int, default=None, help="samples per step (default: 1 to 8, by stage)")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="for the denoiser")
    parser.add_argument("--arithmetic", action="store_true", help="count the arithmetic of the published runs instead")
    parser.add_argument("--sustained-tflops", type=float, default=100, help="for --arithmetic (default: 100)")
    parser.add_argument("--num-clips", type=int, default=362, help="for --arithmetic (default: 362, HDTF's videos)")
    for name in ("measure", "size", "precision", "data"):
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS)
    parser.set_defaults(settings=None)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every stage, size and precision, and print a table."""
    args = parse_arguments(arguments)
    if args.measure is not None:
        print(json.dumps(measure(args)))
        return
    print_machine()
    if args.arithmetic:
        print_arithmetic(args)
        return
    print(f"{'stage':14}{'size':>10}{'':>6}{'parameters':>12}{'batch':>6}{'steps/s':>9}{'samples/s':>10}", end="")
    print(f"{'peak MiB':>10}{'reading':>9}")
    with tempfile.TemporaryDirectory() as folder:
        data = {size: make_data_set(Path(folder, size), size) for size in args.sizes}
        for stage in args.stages:
            # the audio encoder has one size only: the published one is not trained here
            sizes = [size for size in args.sizes if stage != "audio_encoder" or size == args.sizes[-1]]
            for size in sizes:
                for precision in args.precisions:
                    row = measure_in_new_process(args, stage, size, precision, data[size])
                    rate = 1 / row["seconds"]
                    print(f"{stage:14}{size:>10}{precision:>6}{row['parameters']:>12,}{row['batch']:>6}", end="")
                    print(f"{rate:>9.3g}{rate * row['batch']:>10.3g}{row['memory'] / MIB:>10.0f}", end="")
                    print(f"{row['loading']:>9.1%}", flush=True)


if __name__ == "__main__":
    main()
