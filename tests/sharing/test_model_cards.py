"""Model cards: the Hub's metadata, what must be said, and examples that run."""

import ast
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import eval_results_to_model_index
from PIL import Image

from diffusers_dawn import DAWNPipeline, FaceState, demo_checkpoint
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import count_video_frames
from diffusers_dawn.records import FPS
from diffusers_dawn.sharing.model_card import card_pictures, packaged_card, write_card
from example_runs import NUM_FRAMES, copy_inputs, python_blocks, run_without

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
SECTIONS = ("Use it", "Intended use, and not", "Training data", "Limits", "Figures")
every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)


def test_there_is_a_card_for_each_published_size_and_for_what_ships():
    assert {card.stem for card in CARDS} == {"dawn-128", "dawn-256", "dawn-open"}


def test_the_card_of_what_ships_tells_the_size_of_its_parts():
    text = next(card for card in CARDS if card.stem == "dawn-open").read_text(encoding="utf-8")
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    networks = (
        ("LFG", pipe.lfg),
        ("A2V-FDM", pipe.unet),
        ("PBNet", pipe.pbnet),
        ("audio encoder", pipe.audio_encoder),
    )
    for part, network in networks:
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert re.search(rf"^\| {part} \|[^|]*\| {millions:.2f} M \|", text, flags=re.MULTILINE), part


def test_pipelines_that_ship_carry_their_card():
    assert DAWNPipeline.from_pretrained(demo_checkpoint()).model_card == packaged_card("dawn-open")


@every_card
def test_a_card_has_the_hubs_metadata_and_every_section(card):
    loaded = ModelCard(card.read_text(encoding="utf-8"))
    metadata = loaded.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("diffusers", "image-to-video")
    assert metadata["license"] and metadata["language"] and metadata["datasets"] and "dawn" in metadata["tags"]
    assert [title for title in SECTIONS if f"\n## {title}\n" not in loaded.text] == []
    assert "impersonat" in loaded.text and "agreed" in loaded.text


@every_card
def test_a_cards_evaluation_is_in_the_hubs_form_and_says_what_its_figures_say(card):
    metadata, loaded = metadata_load(card), ModelCard(card.read_text(encoding="utf-8"))
    results = loaded.data.eval_results or []
    if results:
        assert eval_results_to_model_index(card.stem, results) == metadata["model-index"]
    assert bool(results) == (card.stem != "dawn-256")  # the paper has no figures for that size
    figures = loaded.text.partition("## Figures")[2]
    written = {float(number) for number in re.findall(r"(?<![\d.])\d*\.?\d+", figures)}
    assert {float(result.metric_value) for result in results} <= written


def test_the_card_of_what_ships_shows_a_drawn_portrait_that_talks(tmp_path):
    pipe = DAWNPipeline.from_pretrained(demo_checkpoint())
    (name,) = card_pictures(pipe.model_card)
    pipe.save_config(tmp_path)
    with Image.open(tmp_path / name) as picture:
        assert picture.size == (256, 256) and picture.n_frames == 4 * FPS
    assert (tmp_path / name).stat().st_size < 300_000
    # which goes along from folder to folder
    write_card((tmp_path / "README.md").read_text(encoding="utf-8"), tmp_path / "next", tmp_path)
    assert (tmp_path / "next" / name).is_file()


@pytest.mark.parametrize("widget", ["[3]", "{}", "[{output: {url: ../secret.png}}]", "[{output: {url: 3}}]", "]"])
def test_pictures_of_odd_cards_are_left_out(widget):
    assert card_pictures(f"---\nwidget: {widget}\n---\n# A card\n") == []


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


def examples_of(card: Path) -> list[str]:
    """Its Python without and with the package, with one name for all repositories."""
    return [
        block.replace(f'"{card.stem}"', '"repository"') for block in python_blocks(card.read_text(encoding="utf-8"))
    ]


@every_card
def test_all_cards_show_the_same_way_without_the_package(card):
    assert examples_of(card)[0] == examples_of(CARDS[0])[0]


@pytest.mark.slow
def test_the_cards_example_runs_without_the_package(tmp_path, detector):
    assert main(["init", "--size", "tiny", "-o", str(tmp_path / "repository")]) == 0
    copy_inputs(tmp_path)
    run_without(("diffusers_dawn",), examples_of(CARDS[0])[0], tmp_path)
    assert count_video_frames(tmp_path / "talking.mp4", FPS) == NUM_FRAMES


@every_card
def test_a_cards_example_runs_with_the_package(card, tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--size", "tiny", "-o", "repository"]) == 0
    copy_inputs(tmp_path)
    exec(compile(examples_of(card)[1], str(card), "exec"), {})
    assert count_video_frames(tmp_path / "talking.mp4", FPS) == NUM_FRAMES
