"""Model cards: the Hub's metadata, what must be said, and examples that run."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from diffusers_dawn import DAWNPipeline, FaceState, demo_checkpoint
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS
from diffusers_dawn.sharing.model_card import packaged_card
from example_runs import NUM_FRAMES, copy_inputs, python_blocks, run_without

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
CONFIGS = ROOT / "training" / "configs" / "demo"
SECTIONS = ("Use it", "Intended use, and not", "Training data", "Limits", "Figures")
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)


def test_there_is_a_card_for_each_published_size_and_for_what_ships():
    assert {card.stem for card in CARDS} == {"dawn-128", "dawn-256", "dawn-demo"}


def test_the_demos_card_tells_the_steps_of_its_recipe_and_the_size_of_its_parts():
    text = next(card for card in CARDS if card.stem == "dawn-demo").read_text(encoding="utf-8")
    for name, part in (("audio_encoder", "audio encoder"), ("lfg", "LFG"), ("pbnet", "PBNet"), ("a2v", "A2V-FDM")):
        steps = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["max_train_steps"]
        assert re.search(rf"^\| {part}[^|]*\| {steps:,} \|", text, flags=re.MULTILINE), part
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    for part, network in (("LFG", pipe.lfg), ("A2V-FDM", pipe.unet), ("PBNet", pipe.pbnet)):
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert re.search(rf"^\| {part} \|[^|]*\| {millions:.2f} M \|", text, flags=re.MULTILINE), part


def test_pipelines_that_ship_carry_their_card():
    assert DAWNPipeline.from_pretrained(demo_checkpoint()).model_card == packaged_card("dawn-demo")


@every_card
def test_a_card_has_the_hubs_metadata_and_every_section(card):
    loaded = ModelCard(card.read_text(encoding="utf-8"))
    metadata = loaded.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("diffusers", "image-to-video")
    assert metadata["license"] and metadata["language"] and metadata["datasets"] and "dawn" in metadata["tags"]
    assert [title for title in SECTIONS if f"\n## {title}\n" not in loaded.text] == []
    assert "impersonat" in loaded.text and "agreed" in loaded.text


@every_card
def test_a_card_refers_to_nothing_that_only_the_source_tree_has(card):
    loaded = ModelCard(card.read_text(encoding="utf-8"))
    assert [link for link in re.findall(r"\]\(([^)]*)\)", loaded.text) if not link.startswith("https://")] == []


@every_card
def test_a_card_asks_for_the_versions_that_the_package_needs(card):
    (command,) = re.findall(r"^pip install (.*)$", card.read_text(encoding="utf-8"), flags=re.MULTILINE)
    settings = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for name, asked in (("diffusers", "diffusers[torch]~="), ("transformers", "transformers~=")):
        oldest = re.search(rf"^    {name}>=([\d.]+),", settings, flags=re.MULTILINE)[1]
        assert f'"{asked}{oldest}"' in command
    detector = re.search(r"^    (mediapipe==[\d.]+);", settings, flags=re.MULTILINE)[1]
    assert command.split()[-3:] == ["av", "librosa", detector]


@every_card
def test_a_card_tells_what_a_face_is(card):
    (face,) = re.findall(r"`face=(\{.*\})`", card.read_text(encoding="utf-8"))
    assert FaceState(**ast.literal_eval(face)).image_size == (128, 128)


@pytest.mark.slow
@every_card
def test_a_cards_examples_run_without_the_package_and_with_it(card, tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--size", "tiny", "-o", card.stem]) == 0
    copy_inputs(tmp_path)
    alone, with_package = python_blocks(card.read_text(encoding="utf-8"))
    video = tmp_path / "talking.mp4"
    run_without(("diffusers_dawn",), alone, tmp_path)
    assert count_video_frames(video, FPS) == NUM_FRAMES
    video.unlink()
    exec(compile(with_package, str(card), "exec"), {})
    assert count_video_frames(video, FPS) == NUM_FRAMES
