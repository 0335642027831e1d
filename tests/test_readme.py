"""The README's Python, run as it is printed."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageSequence

from diffusers_dawn import DAWNPipeline, demo_checkpoint
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.pictures import read_image
from diffusers_dawn.media.videos import read_video
from example_runs import EXAMPLES, NUM_FRAMES, OPTIONAL, copy_inputs, python_blocks, run_without

README = Path(__file__).parents[1] / "README.md"
# the only block that needs no package of ours
SHARED = "DiffusionPipeline.from_pretrained("


def blocks(shared: bool) -> list[str]:
    return [block for block in python_blocks(README.read_text(encoding="utf-8")) if (SHARED in block) == shared]


@pytest.mark.slow
def test_first_command_makes_a_portrait_talk(tmp_path, monkeypatch, detector):
    monkeypatch.chdir(README.parent)
    first = re.search(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)[1]
    (command,) = (line for line in first.splitlines() if line.startswith("dawn "))
    words = shlex.split(command)[1:]
    words[words.index("-o") + 1] = str(tmp_path / "talking.mp4")
    assert main(words) == 0
    frames, fps = read_video(tmp_path / "talking.mp4")
    assert (len(frames), fps) == (NUM_FRAMES, 25)


@pytest.mark.slow
def test_python_blocks_run_in_order(tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    copy_inputs(tmp_path)
    portraits = [Image.fromarray(read_image(EXAMPLES / f"portrait_{index}.png")) for index in (1, 2)]
    Image.fromarray(np.concatenate([np.asarray(portrait) for portrait in portraits], axis=1)).save("group.jpg")
    portraits[0].resize((128, 128)).save("square.png")
    own = blocks(shared=False)
    assert len(own) == 3
    names: dict = {}
    for block in own:
        exec(compile(block, str(README), "exec"), names)
    frames, fps = read_video("talking.mp4")
    assert (len(frames), fps) == (NUM_FRAMES, 25)
    assert len(names["out"].frames[0]) == NUM_FRAMES


@pytest.mark.slow
def test_shared_pipelines_make_a_video_where_only_diffusers_and_transformers_are_installed(tmp_path):
    DAWNPipeline.from_pretrained(demo_checkpoint()).save_pretrained(tmp_path / "my-dawn")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    (block,) = blocks(shared=True)
    run_without(("diffusers_dawn", *OPTIONAL), block, tmp_path)
    with Image.open(tmp_path / "talking.gif") as video:
        assert (video.n_frames, video.size, video.info["duration"]) == (NUM_FRAMES, (128, 128), 1000 / 25)
        pictures = np.stack([np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(video)])
    portraits = [Image.open(EXAMPLES / f"portrait_{index}.png").convert("RGB").resize((128, 128)) for index in (1, 2)]
    own, other = (np.abs(pictures - np.asarray(portrait)).mean() for portrait in portraits)
    # the head goes through some pixels; with noise for a face, both would be alike
    assert own < other / 2 and pictures.std(axis=0).max() > 20


def test_citation_names_every_author_of_the_paper():
    cited = yaml.safe_load((README.parent / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    # as in the BibTeX entry of the authors' repository
    authors = "Hanbo Cheng, Limin Lin, Chenyu Liu, Pengcheng Xia, Pengfei Hu, Jiefeng Ma, Jun Du, Jia Pan"
    assert ", ".join(f"{author['given-names']} {author['family-names']}" for author in cited["authors"]) == authors
