"""Make dawn-open, the checkpoint for photographs, from its material: portraits, films, recordings, a morphable head.

    python training/make_open.py --portraits PORTRAITS --films FILMS --speech SPEECH --morphable_head head.npz \
        --work open --export open/checkpoint

FILMS holds videos of people named as in GRID, one folder per person; SPEECH recordings and `transcripts.tsv`. The same
command goes on after a stop, with any stage where it was; a checkpoint that is there already is only measured. Hours
on two CPU cores are very many; a GPU is used where there is one.
"""

from pathlib import Path

if __name__ == "__main__" and not __package__:
    import _by_path  # noqa: F401

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from diffusers_dawn.machine.output_places import check_folder
from diffusers_dawn.sharing.checkpoint_folder import check_new_folder
from training.data.clip_plan import list_videos, read_names
from training.data.dataset_info import write_text_atomically
from training.engine import commands
from training.engine.recipe import TRAINING, Gains, Stage, export, run_recipe, script_stage, training_stage
from training.make_photo_clips import HELD_OUT_NAME

CONFIGS = TRAINING / "configs" / "open"
SEED = 0
SIZE_PX = 256
# whom nothing is trained on: talkers of GRID, people of the portraits, and readers of LibriSpeech
HELD_OUT = CONFIGS / "held_out_talkers.txt"
HELD_OUT_PORTRAITS = CONFIGS / "held_out_portraits.txt"
HELD_OUT_READERS = ("61", "908", "1284", "4446")
FILMS_NAME = "held_out_films.txt"
# who is seen, by the names that the portraits have: two pictures of one person in the London set
PERSON = r"([^/]*?_[^/]*?)[ab]?\.[a-z]+$"
NUM_PHOTO_CLIPS, NUM_DRAWN_CLIPS, NUM_TEST_CLIPS = 1500, 200, 40
NUM_DRAWN_PORTRAITS, NUM_TRACKS, TRACK_SECONDS = 80, 300, 6
SQUARE_PX, SQUARE_STEPS, SQUARE_RATE = 128, 8000, 1e-3
# once there is a denoiser, LFG learns to draw what it says, for as many steps
DENOISED_STEPS, DENOISED_RATE = 6000, 6e-4
# lips and heads move by less than they are told; places and size stay. Lips that are told louder need no guidance
GAINS = Gains(speech=1.0, pose=(2.0, 2.0, 1.6, 1.0, 1.0, 1.0), mouth=(1.7, 3.5))
# the smallest drawn heads: of the tracks nobody sees the pictures
TRACKS_PX = 64
PICTURES = {"photos": 0.6, "drawn": 0.1, "filmed": 0.3}


@dataclass(frozen=True)
class Material:
    """What a checkpoint is made from.

    Attributes:
        portraits: Folder of portraits.
        films: Folder of videos of talkers, a folder each, whose names say what is said, as in GRID.
        speech: Folder of recordings with `transcripts.tsv`.
        morphable_head: File of `pack_morphable_head.py`.
    """

    portraits: Path
    films: Path
    speech: Path
    morphable_head: Path

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        for name in ("portraits", "films", "speech"):
            if not getattr(self, name).is_dir():
                raise ValueError(f"`{name}` is {getattr(self, name)}, must be a folder")
        if not self.morphable_head.is_file():
            raise ValueError(f"`morphable_head` is {self.morphable_head}, must be a file")
        if not (self.speech / "transcripts.tsv").is_file():
            raise ValueError(f"`speech` is {self.speech}, must hold transcripts.tsv")


@dataclass(frozen=True)
class Stages:
    """The commands of the recipe, and where they write; each goes on where it was stopped.

    Attributes:
        material: What the checkpoint is made from.
        work: Folder of everything that they write.
        num_processes: Workers that draw and read faces.
    """

    material: Material
    work: Path
    num_processes: int

    @property
    def trained_pipeline(self) -> Path:
        """Where the last training saves the pipeline."""
        return self._run("a2v") / "pipeline"

    @property
    def trained_lfg(self) -> Path:
        """Where the LFG lies that has learned to draw what that pipeline's denoiser says."""
        return self._run("lfg_denoised")

    def training(self) -> list[Stage]:
        """All up to the trained pipeline, in order."""
        return [*self.speech(), *self.pictures(), *self.networks()]

    def speech(self) -> list[Stage]:
        """Learn to hear: from synthetic voices first, then from real ones, too."""
        recordings, films = self.material.speech, self.material.films
        held_out = f"[{', '.join((*HELD_OUT_READERS, *read_names(HELD_OUT)))}]"
        voices = CONFIGS / "synthetic_voices.yaml"
        return [
            script_stage(
                "aligned speech",
                "align_speech",
                *("--recordings", recordings, "--transcripts", recordings / "transcripts.tsv"),
                *("--output", self._labels("speech")),
            ),
            script_stage(
                "aligned films",
                "align_speech",
                *("--recordings", films, "--grid_names", "--output", self._labels("films")),
            ),
            training_stage("audio_encoder", voices, "", self._run("synthetic_voices"), SEED)._replace(
                name="synthetic voices"
            ),
            self._train(
                "audio_encoder",
                None,
                *("--pretrained_model", self._run("synthetic_voices"), "--held_out_speakers", held_out),
                *("--aligned_speech", f"[{self._labels('speech')}, {self._labels('films')}]"),
            ),
        ]

    def pictures(self) -> list[Stage]:
        """Prepare what faces do: filmed ones, photographs and drawn ones that speak, and drawn tracks."""
        drawn_portraits = self.work / "portraits"
        return [
            script_stage(
                "filmed",
                "prepare_clips",
                *("--videos", self.material.films, "--output", self.work / "filmed", "--size", SIZE_PX),
                *("--morphable_head", self.material.morphable_head, "--audio_encoder", self._run("audio_encoder")),
                *("--replace_background", "--identity_pattern", "^([^/]+)/", "--test_split", HELD_OUT),
            ),
            self._puppets(
                "photos",
                self.material.portraits,
                NUM_PHOTO_CLIPS,
                *("--identity_pattern", PERSON, "--test_split", HELD_OUT_PORTRAITS),
            ),
            script_stage(
                "drawn portraits",
                "draw_portraits",
                *("--output", drawn_portraits, "--num_portraits", NUM_DRAWN_PORTRAITS, "--seed", SEED),
            ),
            self._puppets("drawn", drawn_portraits, NUM_DRAWN_CLIPS),
            script_stage(
                "tracks",
                "make_synthetic_clips",
                *("--output", self.work / "tracks", "--num_clips", NUM_TRACKS, "--num_identities", NUM_TRACKS),
                *("--size", TRACKS_PX, "--seconds", TRACK_SECONDS, "--augment_audio", "--seed", SEED),
                *("--num_processes", self.num_processes, "--audio_encoder", self._run("audio_encoder")),
            ),
        ]

    def networks(self) -> list[Stage]:
        """Train the three networks; the denoiser on squares around the face first, which cost a quarter.

        In the end LFG, whose encoder the denoiser knows and which therefore stays, learns to draw what it says.
        """
        parts = ("--lfg", self._run("lfg"), "--pbnet", self._run("pbnet"))
        squares = ("--crop_px", SQUARE_PX, "--train_batch_size", 12, "--max_train_steps", SQUARE_STEPS)
        squares += ("--learning_rate", SQUARE_RATE)
        faces = self._run("a2v_faces")
        return [
            self._train("lfg", PICTURES),
            self._train("pbnet", {"tracks": 0.7, "filmed": 0.3}),
            training_stage("a2v", CONFIGS / "a2v.yaml", self._mixed(PICTURES), faces, SEED, *parts, *squares)._replace(
                name="faces"
            ),
            self._train("a2v", PICTURES, *parts, "--pretrained_model", faces),
            *(self._denoised(name) for name in PICTURES),
            training_stage(
                "lfg",
                CONFIGS / "lfg.yaml",
                self._mixed(PICTURES),
                self.trained_lfg,
                SEED,
                *("--pretrained_model", self._run("lfg"), "--freeze_encoder", "true", "--denoised_share", 0.55),
                *("--blink_share", 0.4, "--adversarial_weight", 0.1),
                *("--max_train_steps", DENOISED_STEPS, "--learning_rate", DENOISED_RATE),
            )._replace(name="denoised"),
        ]

    def evaluation(self, pipeline: Path) -> Stage:
        """Measure a pipeline on people held out."""
        return script_stage(
            "evaluation",
            "evaluate",
            *("--pipeline", pipeline, "--dataset", self.work / "photos"),
            *("--output", self.work / "evaluation", "--sections", "films,portraits", "--seed", SEED),
            *("--real_clips", self.work / FILMS_NAME, "--portraits", self.work / "photos" / HELD_OUT_NAME),
            *("--recordings", *_held_out_speech(self.material.speech)),
        )

    def _run(self, name: str) -> Path:
        return self.work / "runs" / name

    def _labels(self, name: str) -> Path:
        return self.work / "labels" / name

    def _mixed(self, shares: dict[str, float]) -> str:
        return "{" + ", ".join(f"{self.work / part}: {share}" for part, share in shares.items()) + "}"

    def _train(self, name: str, shares: dict[str, float] | None, *extra: object) -> Stage:
        dataset = "" if shares is None else self._mixed(shares)
        return training_stage(name, CONFIGS / f"{name}.yaml", dataset, self._run(name), SEED, *extra)

    def _denoised(self, name: str) -> Stage:
        words = ("--dataset", self.work / name, "--pipeline", self.trained_pipeline, "--seed", SEED)
        return script_stage(f"denoised {name}", "add_denoised_motion", *words)

    def _puppets(self, name: str, portraits: Path, num_clips: int, *extra: object) -> Stage:
        return script_stage(
            name,
            "make_photo_clips",
            *("--portraits", portraits, "--morphable_head", self.material.morphable_head),
            *("--output", self.work / name, "--num_clips", num_clips, "--test_clips", NUM_TEST_CLIPS),
            *("--aligned_speech", self._labels("speech"), "--held_out_speakers", *HELD_OUT_READERS),
            *("--filmed_clips", self.work / "filmed", "--seed", SEED),
            *("--num_processes", self.num_processes, "--audio_encoder", self._run("audio_encoder"), *extra),
        )


def list_held_out_films(films: Path, work: Path) -> None:
    """Write the list of the films of people whom nothing is trained on.

    Args:
        films: Folder of all films, a folder for each person.
        work: Folder of the list.

    Raises:
        ValueError: There are none.
    """
    root, names = list_videos(films)
    held_out = set(read_names(HELD_OUT))
    found = [os.path.relpath(root / name, work) for name in names if Path(name).parts[0] in held_out]
    if not found:
        raise ValueError(f"`films` {films} has no folder of those in {HELD_OUT.name}: {', '.join(sorted(held_out))}")
    work.mkdir(parents=True, exist_ok=True)
    write_text_atomically(work / FILMS_NAME, "".join(f"{name}\n" for name in found))


def _held_out_speech(speech: Path) -> list[Path]:
    """The first recording of each reader whom nothing is trained on."""
    by_reader = (sorted(speech.rglob(f"{reader}-*.*")) for reader in HELD_OUT_READERS)
    return [recordings[0] for recordings in by_reader if recordings]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words after the script's name; None: those of the process.

    Returns:
        Exit status: 0 done, 2 something is missing or a stage failed, 130 interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, text in (
        ("portraits", "folder of portraits"),
        ("films", "folder of videos, a folder for each person"),
        ("speech", "folder of recordings with transcripts.tsv"),
        ("morphable_head", "file of pack_morphable_head.py"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and figures")
    parser.add_argument("--export", type=Path, help="folder for the pipeline as it ships (default: WORK/checkpoint)")
    parser.add_argument("--num_processes", type=int, default=2, help="workers that draw clips (default: 2)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args(arguments)
    return commands.run("make_open", lambda: make_open(options))


def make_open(options: argparse.Namespace) -> None:
    """Make the checkpoint; see `make_open.py --help`.

    Args:
        options: The parsed options.

    Raises:
        ValueError: Material is missing, or a stage failed.
    """
    material = Material(options.portraits, options.films, options.speech, options.morphable_head)
    stages = Stages(material, options.work, options.num_processes)
    checkpoint = options.export or options.work / "checkpoint"
    if options.dry_run:
        commands_of_all = (*stages.training(), stages.evaluation(checkpoint))
        print("\n".join(shlex.join(stage.command) for stage in commands_of_all))
        return
    check_folder(options.work, "work")
    list_held_out_films(material.films, options.work)
    is_exported = (checkpoint / "model_index.json").is_file()
    if not is_exported:
        check_new_folder(checkpoint, "export")
    run_recipe(stages.training(), options.work)
    if not is_exported:
        num_bytes = export(stages.trained_pipeline, checkpoint, GAINS, stages.trained_lfg)
        print(f"wrote {checkpoint}: {num_bytes / 1e6:.1f} MB of weights")
    run_recipe([stages.evaluation(checkpoint)], options.work)


if __name__ == "__main__":
    commands.program(main)
