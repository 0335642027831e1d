"""The trained pipeline that comes with the package."""

import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import diffusers_dawn
from diffusers_dawn import DAWNPipeline
from diffusers_dawn.media.pictures import read_image
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import stream_video
from diffusers_dawn.records import FPS, SAMPLE_RATE_HZ, Waveform
from training.engine.recipe import MAX_BYTES
from training.evaluation.face_reader import FaceReader, FaceReadings, labelled_opening
from training.evaluation.figures import opening_correlation
from training.synthetic.talking_head import identity_seed, make_talking_head

FOLDER = Path(diffusers_dawn.demo_checkpoint())
EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_FRAMES = 40
NUM_FILMED = 74  # whole sentences
# a mouth that stays still has 0; the model card tells what more clips reach
LEAST_CORRELATION = 0.25
LEAST_CORRELATION_FILMED = 0.3
# talkers of whom nothing was trained
FILMS = Path(os.environ.get("DAWN_DATA", Path(__file__).parents[1].parent / "shared" / "data")) / "grid"
FILMED = ("s2/s2_bbaf1n.mkv", "s31/s31_bbac2n.mkv")


@pytest.fixture(scope="module")
def pipe() -> DAWNPipeline:
    pipe = DAWNPipeline.from_pretrained(diffusers_dawn.demo_checkpoint())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_its_weights_are_small_and_in_half_precision():
    files = sorted(FOLDER.rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"lfg", "pbnet", "unet", "audio_encoder"}
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) <= MAX_BYTES
    tensors = {key: tensor for file in files for key, tensor in load_file(file).items()}
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    # angles of rotary embeddings need more digits
    assert {key for key, tensor in tensors.items() if tensor.dtype == torch.float32 and "rotary" not in key} == set()


def test_it_loads_in_float32_unless_told_otherwise(pipe):
    parts = (pipe.unet, pipe.lfg, pipe.pbnet, pipe.audio_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    half = DAWNPipeline.from_pretrained(diffusers_dawn.demo_checkpoint(), dtype=torch.bfloat16)
    assert {part.dtype for part in (half.unet, half.lfg, half.audio_encoder)} == {torch.bfloat16}


def test_it_holds_no_code():
    assert not list(FOLDER.rglob("*.py"))


def test_saved_again_it_carries_its_code(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "own")
    index = json.loads((tmp_path / "own" / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == ["pipeline", "DAWNPipeline"]
    assert (tmp_path / "own" / "pipeline.py").is_file()


def test_examples_are_drawn_and_spoken_by_their_script(tmp_path):
    from training.make_examples import PEOPLE, SECONDS, make_examples

    make_examples(tmp_path)
    made, kept = ({path.name for path in folder.glob("*_[0-9].*")} for folder in (tmp_path, EXAMPLES))
    assert made == kept and len(made) == len(PEOPLE) + len(SECONDS)
    for name in made:
        if name.endswith(".wav"):
            assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()
        else:
            # renderers round differently on other processors
            difference = read_image(tmp_path / name).astype(int) - read_image(EXAMPLES / name)
            assert np.abs(difference).mean() < 0.5


@pytest.mark.slow
def test_lips_of_drawn_strangers_follow_their_speech(pipe, detector):
    made, frozen = [], []
    with FaceReader() as reader:
        for number in range(2):
            clip = make_talking_head(identity_seed(200 + number, "test", 0), 1000 + number, "test", 256, NUM_FRAMES)
            frames = animated(pipe, clip.frames[0], Waveform(clip.samples, SAMPLE_RATE_HZ), number)
            truth = labelled_opening(clip.labels)
            readings = reader(frames)
            made.append(opening_correlation(truth, readings))
            frozen.append(opening_correlation(truth, frozen_lips(readings)))
    assert np.mean(made) > LEAST_CORRELATION
    assert not np.mean(frozen) > LEAST_CORRELATION


@pytest.mark.slow
@pytest.mark.skipif(not FILMS.is_dir(), reason="no films: set DAWN_DATA to the folder that holds grid/")
def test_lips_of_filmed_strangers_follow_their_speech(pipe, detector):
    made, frozen = [], []
    with FaceReader() as reader:
        for number, name in enumerate(FILMED):
            film = np.stack(list(islice(stream_video(FILMS / name, FPS), NUM_FILMED)))
            sound = read_waveform(FILMS / name)
            speech = Waveform(sound.samples[: NUM_FILMED * sound.sample_rate_hz // FPS], sound.sample_rate_hz)
            truth = reader(film).opening
            frames = animated(pipe, film[0], speech, number)
            readings = reader(frames)
            made.append(opening_correlation(truth, readings))
            frozen.append(opening_correlation(truth, frozen_lips(readings)))
    assert np.mean(made) > LEAST_CORRELATION_FILMED
    assert not np.mean(frozen) > LEAST_CORRELATION_FILMED


def frozen_lips(readings: FaceReadings) -> FaceReadings:
    """As if all frames were the first: each is read by itself."""
    return replace(readings, opening=readings.opening[:1].repeat(len(readings.opening)))


def animated(pipe: DAWNPipeline, picture: np.ndarray, speech: Waveform, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    # lips follow with the fewest steps, too
    frames = pipe(picture, speech, preset="fast", generator=generator, output_type="np").frames[0]
    return (frames * 255).round().astype(np.uint8)
