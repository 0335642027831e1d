"""What test_docs.py leaves out of the page about what diffusers offers: its command, and what needs torchao."""

import re
import shlex
from pathlib import Path

import pytest

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import SAMPLE_RATE_HZ
from example_runs import copy_inputs, python_blocks, run_without, write_short_speech

PAGE = Path(__file__).parents[1] / "docs" / "diffusers.md"
NUM_FRAMES = 5


@pytest.mark.slow
def test_command_of_diffusers_writes_video_and_sound_at_their_rates(tiny_pipe, tmp_path, detector):
    tiny_pipe.save_pretrained(tmp_path / "my-dawn")
    copy_inputs(tmp_path)
    write_short_speech(tmp_path / "speech.wav", NUM_FRAMES)
    (command,) = re.findall(r"```bash\n(diffusers-cli .*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))[1:]
    code = f"import sys; sys.argv[1:] = {words}; from diffusers.commands.diffusers_cli import main; main()"
    run_without(("diffusers_dawn",), code, tmp_path)
    assert count_video_frames(tmp_path / "talking" / "0000.mp4", 25) == NUM_FRAMES
    sound = read_waveform(tmp_path / "talking" / "0000.wav")
    assert (len(sound.samples), sound.sample_rate_hz) == (NUM_FRAMES * SAMPLE_RATE_HZ // 25, SAMPLE_RATE_HZ)


def test_the_lines_on_eight_bits_render(tiny_pipe, tmp_path, monkeypatch, detector):
    pytest.importorskip("torchao")
    tiny_pipe.save_pretrained(tmp_path / "tiny")
    copy_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in python_blocks(PAGE.read_text(encoding="utf-8")) if "torchao" in block)
    names = {"DAWNPipeline": DAWNPipeline, "demo_checkpoint": lambda: "tiny"}
    exec(compile(block, str(PAGE), "exec"), names)
    weight = names["small"].unet.middle.spatial_attention.to_q.weight
    assert type(weight).__module__.startswith("torchao")
