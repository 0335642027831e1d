import json
import os
import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from diffusers_dawn.conversion.published import _check_tensors, convert_published, read_checkpoint
from diffusers_dawn.pipeline.pipeline_dawn import DAWNPipeline
from diffusers_dawn.sharing.checkpoint_folder import save_new
from diffusers_dawn.sharing.model_card import packaged_card

GOLDENS = Path(os.environ.get("DAWN_GOLDENS", Path(__file__).parents[2] / "../shared/goldens"))
GOLDEN_FILES = ("a2v_fdm", "lfg", "pbnet_pose", "pbnet_blink")
has_goldens = all((GOLDENS / f"{name}.safetensors").exists() for name in GOLDEN_FILES)
needs_goldens = pytest.mark.skipif(not has_goldens, reason=f"no recorded tensors in {GOLDENS}: set DAWN_GOLDENS")
NETWORKS = ("unet", "lfg", "pbnet", "audio_encoder")


def recorded_weights(name: str) -> dict[str, torch.Tensor]:
    tensors = safetensors.torch.load_file(GOLDENS / f"{name}.safetensors")
    return {key.removeprefix("weights."): value for key, value in tensors.items() if key.startswith("weights.")}


def recorded_options(name: str) -> dict:
    with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
        return json.loads(file.metadata()["opt"])


@pytest.fixture(scope="session")
def published(tmp_path_factory) -> dict[str, Path]:
    """A complete set of files as published, but small: the recorded networks and a random HuBERT."""
    folder = tmp_path_factory.mktemp("published")
    lfg: dict = {"optimizer_generator": {"state": {}, "param_groups": []}, "epoch": 3, "example": 7}
    for key, tensor in recorded_weights("lfg").items():
        entry, name = key.split(".", 1)
        lfg.setdefault(entry, {})[name] = tensor
    denoiser = recorded_weights("a2v_fdm")
    torch.save({"diffusion": denoiser, "optimizer_diff": {"state": {}}}, folder / "DAWN_128.pth")
    torch.save(lfg, folder / "LFG_128_1000ep.pth")
    for name, checkpoint in (("pose", "checkpoint_40000.pth.tar"), ("blink", "checkpoint_95000.pth.tar")):
        (folder / name).mkdir()
        torch.save(recorded_weights(f"pbnet_{name}"), folder / name / checkpoint)
        (folder / name / "opt.yaml").write_text(yaml.safe_dump(recorded_options(f"pbnet_{name}")))
    torch.manual_seed(0)
    audio_dim = denoiser["denoise_fn.downs.0.0.audio_mlp.1.weight"].shape[1]
    config = HubertConfig(
        hidden_size=audio_dim,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(folder / "hubert")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder / "hubert")
    return {
        "dawn": folder / "DAWN_128.pth",
        "lfg": folder / "LFG_128_1000ep.pth",
        "hubert": folder / "hubert",
        "pbnet_pose": folder / "pose",
        "pbnet_blink": folder / "blink",
    }


@pytest.fixture(scope="session")
def said() -> list[str]:
    return []


@pytest.fixture(scope="session")
def pipeline(published, said) -> DAWNPipeline:
    return convert_published(**published, say=said.append)


def changed(published: dict[str, Path], folder: Path, name: str, content: object, **others: Path) -> dict[str, Path]:
    """The published files with another content in one of them."""
    path = folder / published[name].name
    torch.save(content, path)
    return published | {name: path} | others


@needs_goldens
class TestConversion:
    def test_pipeline_survives_saving_with_equal_weights(self, pipeline, tmp_path):
        save_new(pipeline, tmp_path / "saved")
        assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]
        loaded = DAWNPipeline.from_pretrained(tmp_path / "saved")
        for name in NETWORKS:
            expected = getattr(pipeline, name).state_dict()
            found = getattr(loaded, name).state_dict()
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in expected), name
        for name in ("unet", "lfg", "pbnet", "scheduler"):
            assert type(getattr(loaded, name)) is type(getattr(pipeline, name))
        assert loaded.scheduler.config.beta_schedule == "squaredcos_cap_v2"

    def test_every_network_is_in_eval_mode(self, pipeline):
        assert not any(getattr(pipeline, name).training for name in NETWORKS)

    def test_size_comes_from_the_names(self, pipeline):
        assert pipeline.default_size == 128
        assert pipeline.unet.config.sample_size == 32
        assert pipeline.lfg.config.image_size == 128

    def test_it_carries_the_card_of_its_size(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == packaged_card(f"dawn-{pipeline.default_size}")
        assert DAWNPipeline.from_pretrained(tmp_path).model_card == pipeline.model_card

    def test_size_can_be_given(self, published):
        assert convert_published(**published, size_px=64, say=str).default_size == 64

    def test_what_was_left_out_is_said(self, pipeline, said):
        text = "\n".join(said)
        assert re.search(r"denoiser: \d+ tensors used; left out: .*betas \(1\)", text)
        assert re.search(r"LFG: \d+ tensors used; left out: .*epoch \(1\)", text)
        assert "the seed could not be checked" in text
        assert "PBNet" in text

    def test_pbnet_may_be_left_out(self, published):
        networks = {name: path for name, path in published.items() if not name.startswith("pbnet")}
        assert convert_published(**networks, say=str).pbnet is None

    def test_pbnet_may_be_named_as_files_beside_their_options(self, published, pipeline):
        files = {
            "pbnet_pose": published["pbnet_pose"] / "checkpoint_40000.pth.tar",
            "pbnet_blink": published["pbnet_blink"] / "checkpoint_95000.pth.tar",
        }
        found = convert_published(**published | files, say=str).pbnet.state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in pipeline.pbnet.state_dict().items())

    def test_full_keeps_what_training_needs(self, published, pipeline):
        full = convert_published(**published, full=True, say=str)
        assert full.lfg.config.with_motion_estimator
        assert full.pbnet.config.with_encoder
        assert not pipeline.lfg.config.with_motion_estimator
        assert not pipeline.pbnet.config.with_encoder
        for name in ("lfg", "pbnet"):
            small, large = getattr(pipeline, name).state_dict(), getattr(full, name).state_dict()
            assert small.keys() < large.keys()
            assert all(torch.equal(large[key], tensor) for key, tensor in small.items())

    @pytest.mark.parametrize("name", ["pbnet_pose", "pbnet_blink"])
    def test_half_a_pbnet_is_refused(self, published, name):
        with pytest.raises(ValueError, match="both `pbnet_pose` and `pbnet_blink`"):
            convert_published(**published | {name: None})

    @pytest.mark.parametrize(
        ("dawn", "lfg"), [("DAWN.pth", "LFG.pth"), ("DAWN_128.pth", "LFG_256.pth"), ("1280", "5")]
    )
    def test_names_that_do_not_tell_the_size_are_refused(self, published, dawn, lfg):
        with pytest.raises(ValueError, match=f"the file names {dawn}, {lfg} do not say the video's size"):
            convert_published(**published | {"dawn": Path(dawn), "lfg": Path(lfg)})

    @pytest.mark.parametrize("name", ["dawn", "lfg"])
    def test_absent_files_are_refused(self, published, name):
        with pytest.raises(ValueError, match=f"`{name}` .*nowhere_128.pth is not a file"):
            convert_published(**published | {name: Path("nowhere_128.pth")}, say=str)

    @pytest.mark.parametrize("content", [{}, {"model": {}}, {"diffusion": 3}, [1, 2], torch.zeros(2)])
    def test_denoiser_without_its_entry_is_refused(self, published, tmp_path, content):
        with pytest.raises(ValueError, match="`dawn` must hold a dict with an entry `diffusion`; it holds"):
            convert_published(**changed(published, tmp_path, "dawn", content))

    @pytest.mark.parametrize("entry", ["generator", "region_predictor", "bg_predictor"])
    def test_generator_without_an_entry_is_refused(self, published, tmp_path, entry):
        content = read_checkpoint(published["lfg"], "lfg")
        del content[entry]
        with pytest.raises(ValueError, match=f"`lfg` must hold a dict with an entry `{entry}`"):
            convert_published(**changed(published, tmp_path, "lfg", content), say=str)

    @pytest.mark.parametrize(
        "content", [[1, 2], torch.zeros(2), {"generator": 1, "region_predictor": 2, "bg_predictor": 3}]
    )
    def test_generator_that_is_no_checkpoint_is_refused(self, published, tmp_path, content):
        with pytest.raises(ValueError, match="`lfg` must hold a dict with an entry `generator`"):
            convert_published(**changed(published, tmp_path, "lfg", content), say=str)

    @pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {}, {"epoch": 3}])
    def test_pbnet_without_a_state_dict_is_refused(self, published, tmp_path, content):
        torch.save(content, tmp_path / "a.pth.tar")
        (tmp_path / "opt.yaml").write_text("archiname: transformerreemb5")
        with pytest.raises(ValueError, match="`pose` .*state dict"):
            convert_published(**published | {"pbnet_pose": tmp_path}, say=str)

    @pytest.mark.parametrize("entry", ["generator", "region_predictor", "bg_predictor"])
    def test_generator_with_an_empty_entry_is_refused(self, published, tmp_path, entry):
        content = read_checkpoint(published["lfg"], "lfg") | {entry: {}}
        with pytest.raises(ValueError, match=f"lacks `{entry}"):
            convert_published(**changed(published, tmp_path, "lfg", content), say=str)

    def test_files_in_each_others_place_are_refused(self, published):
        with pytest.raises(ValueError, match="`dawn` must hold a dict with an entry `diffusion`"):
            convert_published(**published | {"dawn": published["lfg"]})
        with pytest.raises(ValueError, match="`lfg` must hold a dict with an entry `generator`"):
            convert_published(**published | {"lfg": published["dawn"]}, say=str)
        with pytest.raises(ValueError, match="2 outputs, must have 6"):
            convert_published(**published | {"pbnet_pose": published["pbnet_blink"]}, say=str)

    def test_two_checkpoints_in_a_folder_are_refused(self, published, tmp_path):
        for name in ("a", "b"):
            torch.save({}, tmp_path / f"{name}.pth.tar")
        with pytest.raises(ValueError, match=r"exactly one \*.pth.tar, holds a.pth.tar, b.pth.tar"):
            convert_published(**published | {"pbnet_pose": tmp_path}, say=str)

    def test_folder_without_checkpoint_is_refused(self, published, tmp_path):
        with pytest.raises(ValueError, match=r"exactly one \*.pth.tar, holds none"):
            convert_published(**published | {"pbnet_blink": tmp_path}, say=str)

    def test_checkpoint_without_options_is_refused(self, published, tmp_path):
        torch.save(recorded_weights("pbnet_pose"), tmp_path / "a.pth.tar")
        with pytest.raises(ValueError, match=r"opt.yaml"):
            convert_published(**published | {"pbnet_pose": tmp_path}, say=str)

    def test_unreadable_audio_encoder_is_refused(self, published, tmp_path):
        with pytest.raises(ValueError, match=f"`hubert` '{re.escape(str(tmp_path))}' cannot be loaded"):
            convert_published(**published | {"hubert": tmp_path}, say=str)

    def test_audio_encoder_of_another_width_is_refused(self, published, tmp_path):
        config = HubertConfig.from_pretrained(published["hubert"])
        config.hidden_size *= 2
        HubertModel(config).save_pretrained(tmp_path)
        Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="`audio_encoder` makes features of width 64, `unet` expects 32"):
            convert_published(**published | {"hubert": tmp_path}, say=str)


class MakesFile:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint_that_would_run_code_is_refused_and_does_not(tmp_path, legacy):
    trap, checkpoint = tmp_path / "trap", tmp_path / "DAWN_128.pth"
    torch.save({"diffusion": MakesFile(trap)}, checkpoint, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"`dawn` .*DAWN_128.pth is refused: .*could run code \(io.open\)"):
        read_checkpoint(checkpoint, "dawn")
    assert not trap.exists()


def test_bare_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
    trap, checkpoint = tmp_path / "trap", tmp_path / "a.pth"
    checkpoint.write_bytes(pickle.dumps(MakesFile(trap), protocol=2))
    with pytest.raises(ValueError, match="`dawn` .* is refused: .*could run code"):
        read_checkpoint(checkpoint, "dawn")
    assert not trap.exists()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"`lfg` .*file.pth (is refused|cannot be read|is empty)"):
        read_checkpoint(tmp_path / "file.pth", "lfg")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoint_that_is_cut_off_is_refused(tmp_path, share, legacy):
    path = tmp_path / "file.pth"
    torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"`lfg` .*file.pth (is refused|cannot be read)"):
        read_checkpoint(path, "lfg")


def test_checkpoints_are_read_as_they_were_written(tmp_path):
    torch.save({"a": torch.arange(3.0), "epoch": 4}, tmp_path / "file.pth")
    content = read_checkpoint(tmp_path / "file.pth", "lfg")
    assert content["epoch"] == 4
    assert torch.equal(content["a"], torch.arange(3.0))


def test_files_that_are_no_checkpoint_are_refused_in_words(tmp_path):
    damaged = "cannot be read .*: it is none, or damaged"
    for content, message in ((b"", "is empty: it has 0 bytes"), (b"hello" * 99, damaged)):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(ValueError, match=f"^`lfg` .*file.pth {message}$"):
            read_checkpoint(tmp_path / "file.pth", "lfg")


def test_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="`lfg` .* is not a file"):
        read_checkpoint(tmp_path, "lfg")


@pytest.mark.parametrize("tensors", [{5: torch.ones(1)}, {"weight": 3}, {("a", "b"): torch.ones(1)}])
def test_weights_by_other_keys_than_text_are_an_error(tensors):
    with pytest.raises(ValueError, match="`dawn` holds .* among its weights, must hold tensors by text"):
        _check_tensors(tensors, "dawn")
