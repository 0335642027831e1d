"""A checkpoint from its material: commands one after the other, and the pipeline as it ships."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.models.mouth_reader import MOUTH_DEVIATIONS, MOUTH_MEANS
from diffusers_dawn.models.pbnet import PoseBlinkNet
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.records import POSE_NAMES
from diffusers_dawn.sharing.checkpoint_folder import check_new_folder, save_new
from training.data.dataset_info import read_record
from training.engine.child_processes import run_command
from training.engine.networks import load_network

MAX_BYTES = 40_000_000
TRAINING = Path(__file__).resolve().parents[1]


class Stage(NamedTuple):
    """One command of the recipe.

    Attributes:
        name: What it makes.
        command: Words of the command.
    """

    name: str
    command: list[str]


def script_stage(name: str, script: str, *words: object) -> Stage:
    """Make a stage of a command of `training/`.

    Args:
        name: The stage's name.
        script: The command's, without `.py`.
        *words: Its options.
    """
    return Stage(name, [sys.executable, str(TRAINING / f"{script}.py"), *map(str, words)])


def training_stage(name: str, settings: Path, dataset: str, output: Path, seed: int, *words: object) -> Stage:
    """Make a stage of a training, which goes on where it was stopped.

    Args:
        name: What is trained: `train_NAME.py` does it.
        settings: File of its settings.
        dataset: Its data set, or shares of several.
        output: Its output folder.
        seed: Its seed.
        *words: More options.
    """
    options = ["--config", settings, "--seed", seed, "--output_dir", output]
    options += ["--resume_from_checkpoint", "latest", *(["--dataset", dataset] if dataset else []), *words]
    script = [sys.executable, "-m", "accelerate.commands.launch", str(TRAINING / f"train_{name}.py")]
    return Stage(name, [*script, *map(str, options)])


class Gains(NamedTuple):
    """How loudly a trained denoiser is told its conditions.

    A denoiser that learned for hours on few cores moves lips and heads by less than it is told. Both can be told
    louder without training.

    Attributes:
        speech: Weight of speech in its calls, the `speech_guidance` of `DAWNPipeline`.
        pose: Factor of each pose difference, which multiplies the `pose_scale` of its config.
        mouth: Factors of the mouth that it reads from speech: how far it is open, counted from a closed one, and how
            much wider than usual. What is read is the mean of what could be, and so moves less than mouths do.
    """

    speech: float = 1.0
    pose: tuple[float, ...] = (1.0,) * len(POSE_NAMES)
    mouth: tuple[float, float] = (1.0, 1.0)


def run_recipe(stages: Sequence[Stage], work: Path) -> None:
    """Run the stages, and note how long each took, stops included, in `hours.json`.

    Args:
        stages: The commands.
        work: Folder of the note.

    Raises:
        ValueError: A command failed.
    """
    notes = work / "hours.json"
    hours = read_record(notes, "work", dict) if notes.is_file() else {}
    for stage in stages:
        print(f"{stage.name}: {shlex.join(stage.command)}", flush=True)
        began = time.monotonic()
        code = run_command(stage.command)
        hours[stage.name] = round(hours.get(stage.name, 0) + (time.monotonic() - began) / 3600, 3)
        work.mkdir(parents=True, exist_ok=True)
        notes.write_text(json.dumps(hours, indent=1) + "\n", encoding="utf-8")
        if code:
            raise ValueError(f"the stage `{stage.name}` ended with code {code}; the same command goes on")


def export(pipeline: Path, folder: Path, gains: Gains, lfg: Path | None = None) -> int:
    """Save a trained pipeline as it ships: half precision, without code, and without what only training needs.

    Args:
        pipeline: Folder of the pipeline.
        folder: New folder for it.
        gains: How loudly its denoiser is told speech, poses and the mouth.
        lfg: Folder of another training, whose LFG takes the place of the pipeline's; None: that stays.

    Returns:
        Bytes of its weights.

    Raises:
        ValueError: It would be larger than what ships, 40 MB, `folder` is there and not empty, or poses or a mouth are
            to be told louder to a denoiser without `pose_scale` or `MouthReader`.
    """
    check_new_folder(folder)
    pipe = DAWNPipeline.from_pretrained(pipeline)
    trained_lfg = pipe.lfg if lfg is None else load_network(LatentFlowGenerator, str(lfg), "lfg", "lfg")
    small_lfg = LatentFlowGenerator.from_config(trained_lfg.config, with_motion_estimator=False)
    small_lfg.load_state_dict({name: trained_lfg.state_dict()[name] for name in small_lfg.state_dict()})
    pbnet = PoseBlinkNet.from_config(pipe.pbnet.config, with_encoder=False)
    pbnet.load_state_dict({name: pipe.pbnet.state_dict()[name] for name in pbnet.state_dict()})
    unet = A2VFlowDiffusionModel.from_config(pipe.unet.config, pose_scale=_louder(pipe.unet, gains.pose))
    unet.load_state_dict(pipe.unet.state_dict())
    _open_wider(unet, gains.mouth)
    with TemporaryDirectory() as scratch:
        parts = pipe.components | {"lfg": small_lfg, "pbnet": pbnet, "unet": unet}
        DAWNPipeline(**parts, speech_guidance=gains.speech).save_pretrained(scratch)
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
        told = [settings.pop(name, None) for name in ("_name_or_path", "auto_map")]
        if told != [None, None]:
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return num_bytes


def _louder(unet: A2VFlowDiffusionModel, gains: Sequence[float]) -> list[float] | None:
    scales = unet.config.pose_scale
    if scales is None:
        if any(gain != 1 for gain in gains):
            raise ValueError("`gains` must be 1 for poses: the denoiser has no `pose_scale` that they could multiply")
        return None
    return [scale * gain for scale, gain in zip(scales, gains, strict=True)]


@torch.no_grad()
def _open_wider(unet: A2VFlowDiffusionModel, gains: tuple[float, float]) -> None:
    if gains == (1, 1):
        return
    if unet.mouth_reader is None:
        raise ValueError("`gains` must be 1 for the mouth: the denoiser reads none from speech")
    last = unet.mouth_reader.linear_out
    closed = -torch.tensor(MOUTH_MEANS) / torch.tensor(MOUTH_DEVIATIONS)
    factors = torch.tensor(gains)
    last.weight *= factors[:, None]
    last.bias.copy_(closed + factors * (last.bias - closed))
