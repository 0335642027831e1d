"""Model cards: the Hub's metadata, what must be said, and examples that run."""

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from diffusers_dawn.cli import main
from diffusers_dawn.media import count_video_frames
from diffusers_dawn.records import FPS
from real_inputs import REAL, needs_real

CARDS = sorted((Path(__file__).parents[1] / "model_cards").glob("*.md"))
SECTIONS = ("Use it", "Intended use, and not", "Training data", "Limits", "Figures")


def test_there_is_a_card_for_each_published_size():
    assert {"dawn-128", "dawn-256"} <= {card.stem for card in CARDS}


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
