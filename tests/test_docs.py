"""README and docs: their Python and first command run as printed; their links, commands and options exist."""

import ast
import functools
import importlib.util
import re
import shlex
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageSequence

import diffusers_dawn
from diffusers_dawn import DAWNPipeline, demo_checkpoint
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.options import COMMANDS, command_parser
from diffusers_dawn.media.pictures import read_image
from diffusers_dawn.media.video_writer import write_video
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.lfg import LatentFlowGenerator
from example_runs import (
    EXAMPLES,
    NUM_FRAMES,
    OPTIONAL,
    copy_examples,
    copy_inputs,
    python_blocks,
    run_without,
    write_short_speech,
)
from training.train_a2v import A2VConfig
from training.train_audio_encoder import AudioEncoderConfig
from training.train_lfg import LFGConfig
from training.train_pbnet import PBNetConfig
from training.train_syncnet import SyncConfig

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, *(ROOT / name for name in ("CONTRIBUTING.md", "training/README.md", "benchmarks/README.md"))]
# what it says to the head takes longer, until a nod at 1 s has ended, but its pictures may have any size
LONG_PAGE, NUM_FRAMES_THERE = ROOT / "docs" / "motion.md", 40
CONFIGS = (A2VConfig, AudioEncoderConfig, LFGConfig, PBNetConfig, SyncConfig)
# the only block that needs no package of ours
SHARED = "DiffusionPipeline.from_pretrained("
# of pip, accelerate, diffusers-cli, pytest and ruff
OTHERS_OPTIONS = {"--multi_gpu", "--num_processes", "--cpu", "--dist", "--check", "--block_module_name"}
OTHERS_OPTIONS |= {
    "--block_class_name",
    "--model",
    "--trust-remote-code",
    "--fps",
    "--sampling-rate",
    "--pipeline-kwargs",
}
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, shared: bool) -> list[str]:
    return [block for block in python_blocks(page.read_text(encoding="utf-8")) if (SHARED in block) == shared]


def missing_packages(block: str) -> list[str]:
    imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    return [name for name in names if importlib.util.find_spec(name.split(".")[0]) is None]


def shell_lines(page: Path) -> list[str]:
    found = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line.strip() for block in found for line in block.replace("\\\n", " ").splitlines()]


def dawn_parser():
    return command_parser(dict.fromkeys(COMMANDS, print))


@functools.cache
def known_options() -> set[str]:
    parser = dawn_parser()
    (commands,) = (action for action in parser._actions if action.choices)
    own = [parser, *commands.choices.values()]
    known = OTHERS_OPTIONS | {option for each in own for option in each._option_string_actions}
    known |= {f"--{item.name}" for config in CONFIGS for item in fields(config)}
    for folder in ("training", "benchmarks", "examples"):
        for path in (ROOT / folder).glob("*.py"):
            known |= set(re.findall(r'"(--[a-zA-Z_-]+)"', path.read_text(encoding="utf-8")))
    return known


@functools.cache
def model_arguments() -> set[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "src/diffusers_dawn/models").glob("*.py"))
    return {name for text in texts for name in re.findall(r"^        (\w+): ", text, flags=re.MULTILINE)}


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("https://")]
    for link in links:
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_every_page():
    text = README.read_text(encoding="utf-8")
    led = {page.name for page in DOCS if f"](docs/{page.name}" in text}
    # how the checkpoint that ships came about is for readers of its page
    assert {page.name for page in DOCS} - led == {"dawn-open.md"}
    assert "(dawn-open.md)" in (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")


@every_page
def test_every_option_exists(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-zA-Z][a-zA-Z_.-]*(?<![.-])", " ".join(re.findall(r"`[^`]+`", text))))
    named |= {word.split("=")[0] for line in shell_lines(page) for word in line.split() if re.match(r"--[a-z]", word)}
    of_models = {option.removeprefix("--model.") for option in named if option.startswith("--model.")}
    assert of_models <= model_arguments()
    assert {option for option in named if not option.startswith("--model.")} <= known_options()


@every_page
def test_every_command_and_script_exists(page):
    for line in shell_lines(page):
        if line.startswith("dawn "):
            dawn_parser().parse_args(shlex.split(line)[1:])
    text = page.read_text(encoding="utf-8")
    scripts = re.findall(r"(?:python|launch) ((?:training|benchmarks|tests|examples)/\w+\.py)", text)
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pytest.mark.slow
def test_first_command_makes_a_portrait_talk(tmp_path, monkeypatch, detector):
    copy_examples(tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    first = re.search(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)[1]
    (command,) = (line for line in first.splitlines() if line.startswith("dawn "))
    words = shlex.split(command)[1:]
    words[words.index("-o") + 1] = str(tmp_path / "talking.mp4")
    assert main(words) == 0
    frames, fps = read_video(tmp_path / "talking.mp4")
    assert (len(frames), fps) == (NUM_FRAMES, 25)


@pytest.fixture
def small_pipe(tiny_pipe) -> DAWNPipeline:
    """Tiny networks for pictures as large as the shipped checkpoint's."""
    unet = A2VFlowDiffusionModel.from_config(tiny_pipe.unet.config, sample_size=64, patch_size=4)
    lfg = LatentFlowGenerator.from_config(tiny_pipe.lfg.config, image_size=256)
    return DAWNPipeline(**tiny_pipe.components | {"unet": unet.eval(), "lfg": lfg.eval()})


@pytest.mark.slow
def test_python_runs_as_printed(tmp_path, monkeypatch, detector, tiny_pipe, small_pipe, tmp_path_factory):
    folders = {pipe: str(tmp_path_factory.mktemp("checkpoint")) for pipe in (tiny_pipe, small_pipe)}
    for pipe, folder in folders.items():
        pipe.save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    copy_inputs(tmp_path)
    portraits = [Image.fromarray(read_image(EXAMPLES / f"portrait_{index}.png")) for index in (1, 2)]
    Image.fromarray(np.concatenate([np.asarray(portrait) for portrait in portraits], axis=1)).save("group.jpg")
    portraits[0].resize((128, 128)).save("square.png")
    names: dict = {}
    made = np.zeros(0)
    for page in (README, *DOCS):
        # each page begins with what the README has made, but tiny networks draw faster than the shipped ones
        pipe, num_frames = (tiny_pipe, NUM_FRAMES_THERE) if page == LONG_PAGE else (small_pipe, NUM_FRAMES)
        names_there = names if page == README else names | {"pipe": pipe}
        write_short_speech(tmp_path / "speech.wav", num_frames)
        if page != README:
            monkeypatch.setattr(diffusers_dawn, "demo_checkpoint", lambda folder=folders[pipe]: folder)
            write_video("talking.mp4", made[np.arange(num_frames) % len(made)])
        for block in blocks(page, shared=False):
            if missing_packages(block):
                continue  # of no extra that tests have
            exec(compile(block, str(page), "exec"), names_there)
        if page == README:
            made, fps = read_video("talking.mp4")
            assert (len(made), fps) == (NUM_FRAMES, 25)
        assert len(names_there["out"].frames[0]) == num_frames


@pytest.mark.slow
def test_shared_pipelines_make_a_video_where_only_diffusers_and_transformers_are_installed(tmp_path):
    DAWNPipeline.from_pretrained(demo_checkpoint()).save_pretrained(tmp_path / "my-dawn")
    copy_examples(tmp_path / "examples")
    (block,) = (block for page in (README, *DOCS) for block in blocks(page, shared=True))
    run_without(("diffusers_dawn", *OPTIONAL), block, tmp_path)
    with Image.open(tmp_path / "talking.gif") as video:
        assert (video.n_frames, video.size, video.info["duration"]) == (NUM_FRAMES, (256, 256), 1000 / 25)
        pictures = np.stack([np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(video)])
    portraits = [Image.open(EXAMPLES / f"portrait_{index}.png").convert("RGB") for index in (1, 2)]
    own, other = (np.abs(pictures - np.asarray(portrait)).mean() for portrait in portraits)
    # the head goes through some pixels; with noise for a face, both would be alike
    assert own < other / 2 and pictures.std(axis=0).max() > 20


def test_citation_names_every_author_of_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    # as in the BibTeX entry of the authors' repository
    authors = "Hanbo Cheng, Limin Lin, Chenyu Liu, Pengcheng Xia, Pengfei Hu, Jiefeng Ma, Jun Du, Jia Pan"
    assert ", ".join(f"{author['given-names']} {author['family-names']}" for author in cited["authors"]) == authors
