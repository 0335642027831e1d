"""Measure a saved pipeline on the held-out clips of a prepared data set, and print the figures.

    python training/evaluate.py --pipeline runs/a2v/pipeline --dataset clips --output evaluation

Writes report.json, the numbers, report.md, the tables, and videos to look at.

    accelerate launch --multi_gpu --num_processes 4 training/evaluate.py ...

shares the clips among four processes, with the same figures. Stopped, the same command goes on.

    python training/evaluate.py ... --vary strategy=all_at_once,sar,ttr

measures with each value of a setting, and writes a table with a row for each, like those of the paper's ablations.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from accelerate import PartialState

from diffusers_dawn.cli.evaluation_reports import read_report
from diffusers_dawn.cli.words import weights_of
from diffusers_dawn.machine.description import describe_machine
from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.models.lfg import LatentFlowGenerator
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS, choose_sampling, presets_of
from training.data.dataset_info import write_text_atomically
from training.engine import commands
from training.engine.networks import load_network
from training.engine.processes import PATIENCE, device_of_process, each
from training.evaluation.clips import Evaluation
from training.evaluation.extractor_files import load_extractors
from training.evaluation.extractors import FIGURES_OF
from training.evaluation.face_reader import FaceReader
from training.evaluation.figures import NUM_RESAMPLES
from training.evaluation.loading import load_pipeline
from training.evaluation.provenance import NUM_DIGITS, digests_of_networks, split_digest, versions
from training.evaluation.report import MARKS_NOTE, report_as_markdown, report_as_numbers, write_report
from training.evaluation.sections.catalogue import SECTIONS, run_sections, section_names
from training.evaluation.settings import MOTIONS, EvaluationSettings
from training.evaluation.shared_work import SharedWork
from training.evaluation.strategies import ALL_AT_ONCE, STRATEGIES
from training.evaluation.variants import SETTINGS, variants_as_markdown

# what clips have said, of a report that is not finished
ROWS = "rows"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    # what the processes find lies in files: they only wait for each other, and hear what one is refused
    state = PartialState(cpu=True, timeout=PATIENCE)
    work = (lambda: evaluate(options, state)) if options.vary is None else (lambda: vary(options, words, state))
    try:
        return commands.run("evaluate", work, debug=options.debug, shares_work=True)
    finally:
        state.destroy_process_group()


def vary(options: argparse.Namespace, words: Sequence[str], state: PartialState) -> None:
    """Evaluate with several values of one setting; what an earlier run has finished is not done again.

    Args:
        options: The parsed options.
        words: The words that they were parsed from.
        state: This process among the others.

    Raises:
        ValueError: As of `evaluate`, or `--vary` is not of the right form.
    """
    name, values = each(state, lambda: _varied(options))
    measure_variants(options.output, name, {value: [*words, f"--{name}", value] for value in values}, state)


def _varied(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Name of the setting and its values, if they can be varied."""
    name, _, listed = options.vary.partition("=")
    values = list(dict.fromkeys(value.strip() for value in listed.split(",") if value.strip()))
    if name not in SETTINGS or len(values) < 2:
        raise ValueError(
            f"`vary` is {options.vary!r}, must be NAME=VALUE,VALUE,..., NAME one of {', '.join(SETTINGS)}"
        )
    check_folder(options.output, "output")
    return name, values


def measure_variants(
    folder: Path, name: str, variants: Mapping[str, Sequence[str]], state: PartialState
) -> dict[str, Any]:
    """Evaluate with several values of something; what an earlier run has finished is not done again.

    Args:
        folder: Where the table is written, and a folder for each value.
        name: What is varied, of `variants.VARIED`.
        variants: Words of the command, by the value's name.
        state: This process among the others.

    Returns:
        The reports, see `report_as_numbers`, by the value's name.

    Raises:
        ValueError: As of `evaluate`.
    """
    parsed = {
        value: _parser().parse_args([*words, "--output", str(folder / f"{name}-{value}")])
        for value, words in variants.items()
    }
    each(state, lambda: [_checked(options) for options in parsed.values()])
    reports = {value: evaluate(options, state, reuse=True) for value, options in parsed.items()}
    if state.is_main_process:
        table = variants_as_markdown(name, reports)
        write_text_atomically(folder / f"{name}.md", table)
        print(table)
        print(f"wrote {folder}: {name}.md, and a folder for each value")
    return reports


def evaluate(options: argparse.Namespace, state: PartialState, reuse: bool = False) -> dict[str, Any]:
    """Evaluate a pipeline; see `evaluate.py --help`.

    Args:
        options: The parsed options.
        state: This process among the others, which share the clips.
        reuse: Whether a report that is there is taken, if it is of the same settings, weights and versions.

    Returns:
        The report, see `report_as_numbers`.

    Raises:
        ValueError: An option is out of range, or pipeline and data set cannot be read or do not suit each other.
    """
    # what can be refused without the pipeline is refused before it is loaded
    names, settings = each(state, lambda: _checked(options))
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(FaceReader(options.reader_processes))
        except ImportError as error:
            print(f"evaluate: {error}", file=sys.stderr)
            reader = None
        evaluation = each(state, lambda: _evaluation(options, settings, reader, state.local_process_index))
        made_of = {
            "settings": _settings(options, evaluation),
            "networks": digests_of_networks(evaluation.pipe),
            "versions": versions(),
        }
        finished = _finished_report(options.output, made_of, names) if reuse else None
        # before one of them writes a report
        state.wait_for_everyone()
        if finished is not None:
            if state.is_main_process:
                print(f"{options.output}: measured before")
            return finished
        kept = options.output / ROWS
        kept.mkdir(parents=True, exist_ok=True)
        evaluation.work = SharedWork(
            kept / _digest(made_of), state.process_index, state.num_processes, state.wait_for_everyone, options.quiet
        )
        sections, rendering = run_sections(evaluation, names)
    numbers = report_as_numbers(made_of | {"machine": describe_machine(), "rendering": rendering}, sections)
    # before one of them removes what the others still read
    state.wait_for_everyone()
    if state.is_main_process:
        text = report_as_markdown(_heading(numbers["settings"], evaluation), sections) + _made_with(numbers)
        write_report(options.output, numbers, text)
        shutil.rmtree(kept)
        print(text)
        print(f"wrote {options.output}: report.json, report.md")
    return numbers


def _checked(options: argparse.Namespace) -> tuple[list[str], EvaluationSettings]:
    """Refuse options that are wrong by themselves; returns the sections and the settings."""
    names = section_names(options.sections)
    settings = EvaluationSettings(**{
        field.name: getattr(options, field.name) for field in dataclasses.fields(EvaluationSettings)
    })
    if options.scheduler is not None and options.preset is not None:
        raise ValueError("give either `preset`, which has its own sampler, or `scheduler`")
    check_folder(options.output, "output")
    return names, settings


def _evaluation(
    options: argparse.Namespace, settings: EvaluationSettings, reader: FaceReader | None, local_process_index: int
) -> Evaluation:
    """Load the pipeline and what measures it."""
    device = device_of_process(options.device, local_process_index)
    extractors = load_extractors(options.extractors, options.trust_remote_code, device)
    pipe = load_pipeline(options.pipeline, device, options.lora, options.scheduler, options.attention_window)
    if options.scheduler is not None and settings.num_inference_steps is None:
        # given steps keep presets, which have samplers of their own, away
        steps = presets_of(pipe.scheduler)[DEFAULT_PRESET].num_inference_steps
        settings = dataclasses.replace(settings, num_inference_steps=steps)
    lfg = None
    if options.lfg is not None:
        lfg = load_network(LatentFlowGenerator, options.lfg, "lfg", "lfg").to(pipe.device)
    return Evaluation(pipe, options.dataset, settings, reader, lfg, extractors)


def _digest(made_of: Mapping[str, Any]) -> str:
    """Name what a report is made of: what clips said about something else is not taken for it."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:NUM_DIGITS]


def _finished_report(folder: Path, made_of: Mapping[str, Any], names: list[str]) -> dict[str, Any] | None:
    """The report of a folder, if it has these sections, and was made of the same."""
    try:
        report = read_report(str(folder), "output")
    except ValueError:
        return None
    # as they are once they are written
    wanted = json.loads(json.dumps(made_of))
    is_same = all(report.get(key) == value for key, value in wanted.items())
    return report if is_same and list(report["sections"]) == names else None


def _settings(options: argparse.Namespace, evaluation: Evaluation) -> dict[str, Any]:
    """What was evaluated, and how; names of folders, without their paths."""
    settings = dataclasses.asdict(evaluation.settings)
    sampling = choose_sampling(evaluation.pipe.scheduler, settings["preset"], settings["num_inference_steps"])
    window = evaluation.pipe.unet.config.temporal_window
    if settings["guidance_scale"] is None:
        settings["guidance_scale"] = {"speech": evaluation.pipe.config.speech_guidance}
    del settings["quiet"], settings["output"], settings["num_videos"]
    folders = {name: settings.pop(name) for name in ("real_clips", "portraits")}
    entries = [evaluation.shards.entries[row[0]] for row in evaluation.rows]
    return settings | {
        "pipeline": _shown_name(options.pipeline),
        "lfg": None if options.lfg is None else _shown_name(options.lfg),
        "lora": None if options.lora is None else _shown_name(options.lora),
        "dataset": _shown_name(options.dataset),
        **{name: None if folder is None else _shown_name(folder) for name, folder in folders.items()},
        "recordings": [path.name for path in options.recordings],
        "extractors": evaluation.extractors.sources,
        "num_clips": len(evaluation),
        "test_split": split_digest(evaluation.shards.entries),
        "num_identities": len({entry.identity for entry in entries}),
        "size_px": evaluation.shards.info.size_px,
        "num_inference_steps": sampling.num_inference_steps,
        "scheduler": type(sampling.scheduler).__name__,
        "attention_window": "none" if window is None else 2 * window,
    }


def _shown_name(name: str | Path) -> str:
    return Path(name).resolve().name if Path(name).exists() else str(name)


def _heading(settings: dict[str, Any], evaluation: Evaluation) -> str:
    steps = settings["num_inference_steps"]
    lines = [
        f"`{settings['pipeline']}` on {settings['num_clips']} clips, up to {settings['clip_seconds']:g} s each, of "
        f"{settings['num_identities']} people in the test split of `{settings['dataset']}`: {settings['size_px']} px, "
        f"{steps} step{'s' * (steps > 1)} of {settings['scheduler']}, seed {settings['seed']}. Intervals are "
        f"the bootstrap's over clips ({NUM_RESAMPLES} resamples). Faces are read by mediapipe. {MARKS_NOTE}"
    ]
    if settings["lora"] is not None:
        lines.append(f"The denoiser has the adapter `{settings['lora']}`.")
    if settings["lfg"] is not None:
        lines.append(f"The reconstruction is that of the LFG `{settings['lfg']}`.")
    if settings["strategy"] != ALL_AT_ONCE:
        lines.append(f"Strategy: {STRATEGIES[settings['strategy']]}.")
    note = evaluation.speech_note()
    return "## Evaluation\n\n" + " ".join([*lines, *([note] if note else [])])


def _made_with(numbers: Mapping[str, Any]) -> str:
    networks, packages = (", ".join(map(" ".join, numbers[key].items())) for key in ("networks", "versions"))
    return f"\nSHA-256 of weights: {networks}. Versions: {packages}. Machine: {numbers['machine']}.\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure a saved pipeline on held-out clips.")
    add, default = parser.add_argument, EvaluationSettings()
    add("--pipeline", required=True, help="folder or Hub id of the pipeline")
    add("--dataset", type=Path, required=True, help="folder of a prepared data set with a test split")
    add("--output", type=Path, required=True, help="folder for report.json and report.md")
    add("--sections", help=f"sections to measure, joined by commas (default: all): {','.join(SECTIONS)}")
    add("--recordings", type=Path, nargs="+", default=(), metavar="FILE", help="real speech, for its part")
    add("--real_clips", type=Path, help="folder or list of films of people who were not trained on")
    add("--portraits", type=Path, help="folder or list of portraits that speak the recordings")
    add("--lora", help="folder or Hub id of an adapter for the denoiser")
    add("--lfg", help="folder or Hub id of an LFG with a motion estimator, if the pipeline's has none")
    add(
        "--extractors",
        nargs="+",
        default=(),
        metavar="NAME=PLACE",
        help=f"networks of metrics: NAME of {', '.join(FIGURES_OF)}; FILE.pt (TorchScript), FILE.py:FUNCTION, of the "
        "Hub OWNER/REPOSITORY:FILE; of dawn_sync the folder or Hub id",
    )
    add("--trust_remote_code", action="store_true", help="let the files of --extractors, which are programs, run")
    counts = {
        "num_clips": "clips of the test split, films and portraits, at most, evenly spread over them",
        "num_long": "rows of clips joined to long videos, at most",
        "num_videos": "clips whose video is written beside the film (section paper) or whose mouth is plotted",
        "num_portraits": "portraits that speak each recording, at most",
        "frame_stride": "reconstruct every N-th frame of a clip",
        "num_inference_steps": "denoising steps of the pipeline's scheduler, instead of a preset",
        "seed": "same seed, same report",
    }
    for name, text in counts.items():
        value = getattr(default, name)
        add(f"--{name}", type=int, default=value, help=text if value is None else f"{text} (default: {value})")
    add(
        "--guidance_scale",
        type=weights_of,
        metavar="W",
        help="weight of speech, pose and blinks, or of some: speech=2 (default: the pipeline's)",
    )
    add("--strategy", choices=tuple(STRATEGIES), default=default.strategy, help=_meanings(STRATEGIES))
    add("--motion", choices=tuple(MOTIONS), default=default.motion, help=_meanings(MOTIONS))
    add(
        "--attention_window",
        type=_window,
        metavar="FRAMES",
        help="frames that see each other, both sides together as in the paper, or none (default: the checkpoint's)",
    )
    add("--vary", metavar="NAME=VALUE,VALUE", help=f"measure with several values of one of {', '.join(SETTINGS)}")
    add("--preset", choices=tuple(PRESETS), help="sampler and steps (default: the pipeline's own default)")
    add("--scheduler", help="sampler instead of a preset's: dawn, ddim, dpm++, unipc, ... or a class of diffusers")
    add("--clip_seconds", type=float, default=default.clip_seconds, help="length of clips (default: %(default)s)")
    add("--join_clips", action="store_true", help="join clips of one person, with cuts, until they last that long")
    add("--long_seconds", type=float, help="length of long videos (default: 24, or twice that of clips)")
    add("--reader_processes", type=int, default=1, help="processes that read faces (default: %(default)s)")
    add("--device", help="where the pipeline runs (default: a GPU if there is one)")
    add("--quiet", action="store_true", help="show no progress bars")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def _meanings(choices: Mapping[str, str]) -> str:
    listed = "; ".join(f"{word}: {meaning}" for word, meaning in choices.items())
    return f"{listed} (default: %(default)s)"


def _window(word: str) -> int | str:
    if word == "none":
        return word
    # argparse turns a ValueError into its own message
    if not word.isdecimal() or int(word) < 2 or int(word) % 2:
        raise argparse.ArgumentTypeError(f"{word!r}, must be an even number from 2, or none")
    return int(word)


if __name__ == "__main__":
    commands.program(main)
