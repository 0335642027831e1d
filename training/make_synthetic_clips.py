"""Make a prepared data set of synthetic talking heads, for use without videos.

    python training/make_synthetic_clips.py --output DATA --num_clips 200 --num_identities 50 --audio_encoder none

The same command goes on after a kill, with any number of processes: finished clips stay, the bytes are those of an
uninterrupted run. Under `accelerate launch` every process makes its part of the shards.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import importlib.util
import os
from collections.abc import Sequence
from functools import partial

import torch
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers.utils.logging import disable_progress_bar

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.records import FPS
from training.data.dataset_info import DatasetInfo, write_dataset_info
from training.data.prepared_report import write_contact_sheet, write_report, write_statistics
from training.data.shard_journal import read_journal
from training.data.speech_features import SpeechFeatures, stored_encoder_name
from training.engine import commands
from training.engine.checkpoints import list_checkpoints
from training.engine.child_processes import run_command, run_workers
from training.engine.config import parse_config
from training.engine.processes import PATIENCE, device_of_process, each, together
from training.engine.resumed_settings import changed_settings
from training.synthetic.generated_data import (
    GeneratorSettings,
    PlannedShard,
    begin,
    check_settings,
    make_shard,
    plan_shards,
    write_example,
)
from training.synthetic.speech_report import write_speech_statistics
from training.train_audio_encoder import AudioEncoderConfig

PACKAGES = ("espeakng_loader", "numba")
# what a launcher tells its processes about each other; the encoder's training is none of them, it runs alone
LAUNCHER_VARIABLES = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_")
KEPT_VARIABLE = "ACCELERATE_USE_CPU"
# settings of the encoder's training that its weights do not depend on
FREE_ENCODER_SETTINGS = ("output_dir", "debug")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    state = PartialState(cpu=True, timeout=PATIENCE)
    return commands.run(
        "make_synthetic_clips", lambda: make_clips(options, state), debug=options.debug, shares_work=True
    )


def make_clips(options: argparse.Namespace, state: PartialState) -> None:
    """Make a data set; see `make_synthetic_clips.py --help`.

    Args:
        options: The parsed options.
        state: This process among the others.

    Raises:
        ValueError: An option is out of range, or contradicts an earlier run in the same folder.
        ImportError: A package of the extra `synthetic` is missing.
    """
    device = each(state, lambda: _checked_device(options, state))
    if options.audio_encoder.endswith(".yaml"):
        options.audio_encoder = together(state, lambda: _trained_encoder(options))
    # before anything is written: an encoder that is not there is refused at once
    settings, features = each(state, lambda: (_settings(options), _features(options.audio_encoder, device)))
    together(state, lambda: begin(options.output, settings))
    shards = plan_shards(options.output, settings)
    own = shards[state.process_index :: state.num_processes]
    with _progress(own, options.quiet or not state.is_main_process) as progress:
        if options.num_processes == 1:
            for shard in own:
                make_shard(shard, settings, features, progress.update)
        else:
            parts = [own[index :: options.num_processes] for index in range(min(options.num_processes, len(own)))]
            work = partial(_work, settings=settings, audio_encoder=options.audio_encoder, device=str(device))
            run_workers(work, parts, lambda: _catch_up(progress, own))
    state.wait_for_everyone()
    audio_dim = None if features is None else features.dim
    info = DatasetInfo(settings.size_px, settings.audio_encoder, audio_dim, exact_pose=True)
    together(state, lambda: _finish(options.output, info, settings))


def _checked_device(options: argparse.Namespace, state: PartialState) -> torch.device:
    """Refuse what can be refused at once; returns where this process computes."""
    _check_processes(options.num_processes, state.num_processes)
    check_folder(options.output, "output")
    return device_of_process(options.device, state.local_process_index)


def _trained_encoder(options: argparse.Namespace) -> str:
    """Train the audio encoder into the data set's folder, unless it is there already; return its folder."""
    check_settings(_settings(options))
    run = options.output / "audio_encoder_run"
    given = ["--config", options.audio_encoder, "--output_dir", str(run), "--resume_from_checkpoint", "latest"]
    settings, _ = parse_config(AudioEncoderConfig, "", given)
    is_trained = (run / "audio_encoder").is_dir()
    if is_trained or list_checkpoints(run):
        _check_encoder_settings(options.audio_encoder, settings, run)
    if not is_trained:
        command = [sys.executable, str(Path(__file__).with_name("train_audio_encoder.py")), *given]
        if run_command(command, _environment_of_one_process()):
            raise ValueError(f"the audio encoder of `audio_encoder` {options.audio_encoder} could not be trained")
    return str(run / "audio_encoder")


def _check_encoder_settings(name: str, given: AudioEncoderConfig, run: Path) -> None:
    """Refuse to continue with an encoder that was started with other settings."""
    used, _ = parse_config(AudioEncoderConfig, "", ["--config", str(run / "config.yaml")])
    for key, (found, wanted) in changed_settings(used, given).items():
        if key not in FREE_ENCODER_SETTINGS:
            raise ValueError(
                f"`audio_encoder` {name} has `{key}` {wanted!r}, but the encoder in {run} was trained with {found!r}; "
                "choose a new `output`, or remove that folder"
            )


def _environment_of_one_process() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name == KEPT_VARIABLE or not name.startswith(LAUNCHER_VARIABLES)
    }


def _work(
    index: int, shards: Sequence[PlannedShard], settings: GeneratorSettings, audio_encoder: str, device: str
) -> None:
    # the workers share the cores: one thread each
    torch.set_num_threads(1)
    features = _features(audio_encoder, torch.device(device))
    for shard in shards:
        make_shard(shard, settings, features)


def _finish(folder: Path, info: DatasetInfo, settings: GeneratorSettings) -> None:
    """Write the reports once all clips are there, and print a summary."""
    write_example(folder, settings)
    write_dataset_info(folder, info)
    write_report(folder)
    statistics = write_statistics(folder)
    speech = write_speech_statistics(folder)
    sheet = write_contact_sheet(folder)
    for split, numbers in statistics["splits"].items():
        print(
            f"{split}: {numbers['num_clips']} clips of {numbers['num_identities']} identities, "
            f"{numbers['num_frames']} frames; {speech[split]['blinks_per_s']} blinks per second, correlation of mouth "
            f"and speech {speech[split]['mouth_speech_correlation']}"
        )
    print(f"wrote {folder}: look at {sheet.name}; portrait.png and speech.wav are for trying what was trained")


def _features(audio_encoder: str, device: torch.device) -> SpeechFeatures | None:
    if audio_encoder == "none":
        return None
    disable_progress_bar()
    return SpeechFeatures(audio_encoder, device)


def _progress(shards: Sequence[PlannedShard], is_quiet: bool) -> tqdm:
    total = sum(len(shard.clips) for shard in shards)
    return tqdm(total=total, initial=_num_done(shards), desc="clips", unit="clip", disable=is_quiet)


def _catch_up(progress: tqdm, shards: Sequence[PlannedShard]) -> None:
    if _num_done(shards) > progress.n:
        progress.update(_num_done(shards) - progress.n)


def _num_done(shards: Sequence[PlannedShard]) -> int:
    return sum(len(read_journal(shard.path)) for shard in shards)


def _settings(options: argparse.Namespace) -> GeneratorSettings:
    settings = GeneratorSettings(
        num_clips=options.num_clips,
        num_identities=options.num_identities,
        test_clips=options.test_clips,
        test_identities=options.test_identities,
        size_px=options.size,
        num_frames=round(options.seconds * FPS),
        seed=options.seed,
        clips_per_shard=options.clips_per_shard,
        augment_audio=options.augment_audio,
        flow_stride=options.flow_stride,
        audio_encoder=(
            None if options.audio_encoder == "none" else stored_encoder_name(options.audio_encoder, options.output)
        ),
    )
    check_settings(settings)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"{', '.join(missing)} is missing: pip install diffusers_dawn[synthetic]")
    return settings


def _check_processes(num_workers: int, num_launched: int) -> None:
    if num_workers < 1:
        raise ValueError(f"`num_processes` is {num_workers}, must be positive")
    if num_workers > 1 and num_launched > 1:
        raise ValueError(
            f"`num_processes` is {num_workers}, but accelerate launched {num_launched} processes; leave it out"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make a prepared data set of synthetic talking heads.")
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of the data set; an unfinished one is continued")
    add("--num_clips", type=int, default=200, help="clips for training (default: 200)")
    add("--num_identities", type=int, default=50, help="people in them (default: 50)")
    add("--test_clips", type=int, default=20, help="clips for testing (default: 20)")
    add("--test_identities", type=int, default=10, help="other people in those (default: 10)")
    add("--size", type=int, default=128, help="width and height of the frames (default: 128)")
    add("--seconds", type=float, default=4, help="length of every clip (default: 4)")
    add("--seed", type=int, default=0, help="seed of people and sentences (default: 0)")
    add(
        "--audio_encoder",
        required=True,
        help="folder or Hub id of a HuBERT, or folder of a pipeline; settings of train_audio_encoder.py (.yaml) to "
        "train one first; or none to store no features",
    )
    add(
        "--augment_audio",
        action="store_true",
        help="make the sound like recordings: noise, rooms, microphones, levels",
    )
    add("--flow_stride", type=int, default=0, help="store optical flow every N pixels (default: 0, none)")
    add("--clips_per_shard", type=int, default=50, help="clips in one tar file (default: 50)")
    add("--num_processes", type=int, default=1, help="workers on this machine (default: 1)")
    add("--device", help="where the audio encoder runs (default: a GPU if there is one)")
    add("--quiet", action="store_true", help="show no progress bar")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


if __name__ == "__main__":
    commands.program(main)
