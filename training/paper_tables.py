"""Make the paper's tables of ablations for a pipeline: strategies, lengths, windows, PBNet, stages of the curriculum.

    python training/paper_tables.py --pipeline runs/a2v/pipeline --dataset clips --output tables

All options of evaluate.py are understood. `tables.md` has a table for each, and says where rows come in another order
than in the paper. Stopped, the same command goes on; several processes share the clips, as of evaluate.py.
"""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
from collections.abc import Mapping, Sequence

from accelerate import PartialState

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.records import FPS
from training.data.clip_shards import ClipShards
from training.data.dataset_info import write_text_atomically
from training.engine import commands
from training.engine.processes import PATIENCE, each
from training.evaluate import measure_variants
from training.evaluation.figures import FEWEST_FRAMES
from training.evaluation.joined_clips import rows_of_clips
from training.evaluation.paper_tables import PAPER, orders_as_markdown
from training.evaluation.variants import variants_as_markdown

# the tables whose rows are pipelines, and lengths of clips
CURRICULUM, LENGTH = "pipeline", "clip_seconds"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 bad input, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options, others = _parser().parse_known_args(words)
    state = PartialState(cpu=True, timeout=PATIENCE)
    try:
        return commands.run(
            "paper_tables", lambda: make_tables(options, others, state), debug="--debug" in others, shares_work=True
        )
    finally:
        state.destroy_process_group()


def make_tables(options: argparse.Namespace, others: Sequence[str], state: PartialState) -> None:
    """Make the tables; see `paper_tables.py --help`.

    Args:
        options: The parsed options.
        others: Words that are options of evaluate.py.
        state: This process among the others.

    Raises:
        ValueError: An option is wrong, or as of `evaluate`.
    """
    names, stages = each(state, lambda: _chosen(options))
    words = ["--pipeline", options.pipeline, "--dataset", str(options.dataset), "--sections", "paper", *others]
    parts = []
    for name in names:
        variants = _variants(name, words, stages)
        if name == LENGTH:
            possible = _possible_lengths(options.dataset)
            variants = {value: [*row, "--join_clips"] for value, row in variants.items() if value in possible}
        reports = measure_variants(options.output, name, variants, state) if variants else {}
        if reports:
            parts += [variants_as_markdown(name, reports), orders_as_markdown(name, reports)]
        if short := [value for value in PAPER[name] if value not in reports]:
            parts.append(f"Left out of {name}, for want of speech as long, or of a pipeline: {', '.join(short)}.\n")
    if state.is_main_process:
        write_text_atomically(options.output / "tables.md", "\n".join(parts))
        print(f"wrote {options.output}: tables.md")


def _chosen(options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """Names of the tables, and the pipeline of each stage."""
    stages = dict(_stage(words) for words in options.stages)
    names = [name for name in PAPER if name != CURRICULUM or stages]
    if options.tables is not None:
        names = options.tables.split(",")
        if unknown := [name for name in names if name not in PAPER]:
            raise ValueError(f"`tables` has {', '.join(map(repr, unknown))}, must be some of {', '.join(PAPER)}")
        if CURRICULUM in names and not stages:
            raise ValueError("`tables` has 'pipeline', which needs `stages`")
    check_folder(options.output, "output")
    return names, stages


def _variants(name: str, words: Sequence[str], stages: Mapping[str, str]) -> dict[str, list[str]]:
    if name == CURRICULUM:
        return {stage: [*words, "--pipeline", place] for stage, place in stages.items()}
    return {value: [*words, f"--{name}", value] for value in PAPER[name]}


def _possible_lengths(dataset: Path) -> list[str]:
    """Those of the paper's lengths that somebody in the test split speaks, in all clips together."""
    entries = ClipShards(dataset, "test").entries
    clips = [index for index, entry in enumerate(entries) if entry.num_frames >= FEWEST_FRAMES]
    return [value for value in PAPER[LENGTH] if rows_of_clips(entries, clips, round(float(value) * FPS))]


def _stage(words: str) -> tuple[str, str]:
    name, _, place = words.partition("=")
    if name not in PAPER[CURRICULUM] or not place:
        raise ValueError(f"`stages` has {words!r}, must be NAME=PIPELINE, NAME one of {', '.join(PAPER[CURRICULUM])}")
    return name, place


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Make the paper's tables of ablations. Other options are those of evaluate.py.", allow_abbrev=False
    )
    add = parser.add_argument
    add("--pipeline", required=True, help="folder or Hub id of the pipeline")
    add("--dataset", type=Path, required=True, help="folder of a prepared data set with a test split")
    add("--output", type=Path, required=True, help="folder for tables.md, and a folder for each row")
    add("--tables", help=f"tables to make, joined by commas (default: all that can be): {','.join(PAPER)}")
    add(
        "--stages",
        nargs="+",
        default=(),
        metavar="NAME=PIPELINE",
        help=f"pipelines for the table of the curriculum; NAME of {', '.join(PAPER[CURRICULUM])}",
    )
    return parser


if __name__ == "__main__":
    commands.program(main)
