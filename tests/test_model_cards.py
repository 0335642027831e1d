"""Model cards: the Hub's metadata, what must be said, and examples that run."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from diffusers_dawn import DAWNPipeline, demo_checkpoint
from diffusers_dawn.cli import main
from diffusers_dawn.model_card import packaged_card
from diffusers_dawn.records import FPS
from diffusers_dawn.videos import count_video_frames
from real_inputs import REAL, needs_real

CARDS = sorted((Path(__file__).parents[1] / "model_cards").glob("*.md"))
CONFIGS = Path(__file__).parents[1] / "training" / "configs" / "demo"
SECTIONS = ("Use it", "Intended use, and not", "Training data", "Limits", "Figures")


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


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_card_has_the_hubs_metadata_and_every_section(card):
    loaded = ModelCard(card.read_text(encoding="utf-8"))
    metadata = loaded.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("diffusers", "image-to-video")
    assert metadata["license"] and metadata["language"] and metadata["datasets"] and "dawn" in metadata["tags"]
    assert [title for title in SECTIONS if f"\n## {title}\n" not in loaded.text] == []
    assert "impersonat" in loaded.text and "agreed" in loaded.text


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_a_cards_example_runs(card, tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--size", "tiny", "-o", card.stem]) == 0
    shutil.copy(REAL / "portrait_1.jpeg", "portrait.png")
    shutil.copy(REAL / "speech_8s.wav", "speech.wav")
    (example,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, str(card), "exec"), {})
    assert count_video_frames(tmp_path / "talking.mp4", FPS) == 8 * FPS
