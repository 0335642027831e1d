"""Networks of metrics come from files that may run only if they are trusted; what they return is checked."""

import numpy as np
import pytest
import torch

from training.evaluation import extractor_files
from training.evaluation.extractor_files import load_extractors
from training.evaluation.extractors import FIGURES_OF, Extractors, as_images
from training.objectives.sync_network import SyncNetwork

CPU = torch.device("cpu")
FRAMES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
BOXES = np.tile(np.float32((1, 5, 1, 5)), (20, 1))
# what a user writes
PROGRAM = """
import torch

def inception():
    return lambda pictures: pictures.mean(dim=(2, 3))

def arcface():
    return lambda pictures, face_box_px: torch.cat((pictures.mean(dim=(2, 3)), face_box_px), dim=1)

def broken():
    raise RuntimeError("weights are gone")

def nothing():
    return None
"""


class PlainInception(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=[2, 3])


class PublishedI3D(torch.nn.Module):
    """Takes bytes and returns features when asked, as the files do that are passed on."""

    def forward(
        self, videos: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        assert videos.dtype == torch.uint8 and rescale and resize
        if return_features:
            return videos.float().mean(dim=[2, 3, 4])
        return videos.float()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    (folder / "mine.py").write_text(PROGRAM)
    torch.jit.script(PlainInception()).save(folder / "inception.pt")
    torch.jit.script(PublishedI3D()).save(folder / "i3d.pt")
    (folder / "weights.safetensors").write_bytes(b"")
    (folder / "damaged.pt").write_bytes(b"no archive")
    torch.save({"weight": torch.zeros(3)}, folder / "weights.pt")
    return folder


def test_function_and_torchscript_give_the_same_features(files):
    scripted = load_extractors([f"inception={files / 'inception.pt'}"], True, CPU)
    written = load_extractors([f"inception={files / 'mine.py'}:inception"], True, CPU)
    expected = FRAMES.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(scripted.picture_features(FRAMES), expected, atol=1e-6)
    np.testing.assert_allclose(written.picture_features(FRAMES), expected, atol=1e-6)
    assert scripted.missing() == ["i3d", "syncnet", "dawn_sync", "arcface", "lpips"]
    assert scripted.sources["inception"].startswith("inception.pt, SHA-256 ")
    assert written.sources["inception"].startswith("mine.py:inception, SHA-256 ")


def test_published_torchscript_gets_bytes_and_is_asked_for_features(files):
    found = load_extractors([f"i3d={files / 'i3d.pt'}"], True, CPU).window_features(FRAMES.reshape(5, 4, 6, 6, 3))
    np.testing.assert_allclose(found, FRAMES.reshape(5, -1, 3).mean(axis=1), atol=1e-4)


def test_faces_come_with_their_boxes(files):
    found = load_extractors([f"arcface={files / 'mine.py'}:arcface"], True, CPU).face_embeddings(FRAMES, BOXES)
    np.testing.assert_allclose(found[:, 3:], BOXES)


def test_a_file_of_the_hub_is_had_from_its_repository(files, monkeypatch):
    asked = []
    monkeypatch.setattr(
        extractor_files, "hf_hub_download", lambda *words: asked.append(words) or str(files / words[1].split("/")[-1])
    )
    given = ["inception=me/networks:scripts/inception.pt", "arcface=me/networks:mine.py:arcface"]
    found = load_extractors(given, True, CPU)
    assert asked == [("me/networks", "scripts/inception.pt"), ("me/networks", "mine.py")]
    np.testing.assert_allclose(found.picture_features(FRAMES), FRAMES.mean(axis=(1, 2)) / 255, atol=1e-6)
    assert found.sources["arcface"].startswith("mine.py:arcface, SHA-256 ")
    with pytest.raises(ValueError, match="pass `trust_remote_code`"):
        load_extractors(given, False, CPU)
    assert len(asked) == 2


def test_own_sync_network_is_a_folder_that_needs_no_trust(tmp_path):
    SyncNetwork(channels=(4, 4, 4), width=8, embedding_dim=6).save_pretrained(tmp_path / "syncnet")
    found = load_extractors([f"dawn_sync={tmp_path / 'syncnet'}"], False, CPU)
    sound = np.random.default_rng(0).normal(size=20 * 640)
    for embeddings in found.sync_embeddings("dawn_sync", FRAMES, sound, BOXES):
        assert embeddings.shape == (20, 6)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert found.sources["dawn_sync"].startswith("syncnet, SHA-256 ")


def test_nothing_runs_without_trust(files):
    (files / "touch.py").write_text(f"open({str(files / 'touched')!r}, 'w')\n")
    for where in ("touch.py:inception", "inception.pt"):
        with pytest.raises(ValueError, match="which is a program: pass `trust_remote_code` to let it run"):
            load_extractors([f"inception={files / where}"], False, CPU)
    assert not (files / "touched").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["inception"], "`extractors` has 'inception', must be NAME=FILE.pt or NAME=FILE.py:FUNCTION"),
        (["resnet=mine.py:inception"], "NAME one of inception, i3d, syncnet, dawn_sync, arcface"),
        (["dawn_sync=nowhere"], "nowhere holds no network of train_syncnet.py"),
        (["inception=me/networks:no.pt"], "'inception=me/networks:no.pt', which cannot be had from the Hub"),
        (["inception=inception.pt", "inception=inception.pt"], "`extractors` has inception twice"),
        (["inception=nowhere.pt"], "nowhere.pt is not a file"),
        (["inception=weights.safetensors"], "weights alone, such as safetensors, do not say what network"),
        (["inception=damaged.pt"], "damaged.pt cannot be loaded as TorchScript"),
        (["inception=weights.pt"], "weights.pt cannot be loaded as TorchScript"),
        (["inception=mine.py:broken"], "mine.py:broken cannot be loaded: weights are gone"),
        (["inception=mine.py:absent"], "mine.py:absent cannot be loaded"),
        (["inception=mine.py:nothing"], "mine.py:nothing returns NoneType, must return a function"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_sentence(given, message, files, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(ValueError) as caught:
        load_extractors(given, True, CPU)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_network_has_its_figures():
    assert Extractors().missing() == list(FIGURES_OF)
    assert Extractors(**dict.fromkeys(FIGURES_OF, print)).missing() == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(3, 4), r"`inception` returns \(3, 4\), must return \(8, D\)"),
        ([1.0], r"`inception` returns list, must return a tensor \(8, D\)"),
        (torch.full((8, 4), torch.nan), "`inception` returns values that are not finite"),
    ],
)
def test_what_a_network_must_not_return_is_refused(returned, message):
    with pytest.raises(ValueError, match=message):
        Extractors(inception=lambda pictures: returned).picture_features(FRAMES)


def test_a_network_that_fails_is_named():
    def failing(*inputs):
        raise RuntimeError("no memory")

    for call, name in (
        (lambda given: given.picture_features(FRAMES), "inception"),
        (lambda given: given.sync_embeddings("syncnet", FRAMES, np.zeros(20 * 640), BOXES), "syncnet"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` fails: no memory"):
            call(Extractors(**{name: failing}))


def test_sync_needs_two_embeddings_per_frame():
    def embeddings(network):
        return Extractors(syncnet=network).sync_embeddings("syncnet", FRAMES, np.zeros(20 * 640), BOXES)

    lips, sound = embeddings(
        lambda pictures, samples, boxes: (pictures.mean(dim=(2, 3)), samples.view(20, 640)[:, :3])
    )
    assert lips.shape == sound.shape == (20, 3)
    with pytest.raises(ValueError, match="`syncnet` must return two tensors"):
        embeddings(lambda pictures, samples, boxes: pictures)
    with pytest.raises(ValueError, match=r"`syncnet` returns \(5, 3\), must return \(20, D\)"):
        embeddings(lambda pictures, samples, boxes: (torch.zeros(5, 3), torch.zeros(20, 3)))


def test_perceptual_distance_is_one_number_per_frame():
    network = lambda made, truth: (made - truth).square().mean(dim=(1, 2, 3))  # noqa: E731
    found = Extractors(lpips=network).perceptual_distances(FRAMES, FRAMES[::-1])
    expected = (as_images(FRAMES) - as_images(FRAMES[::-1])).square().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"`lpips` returns \(\), must return \(8,\)"):
        Extractors(lpips=lambda made, truth: (made - truth).mean()).perceptual_distances(FRAMES, FRAMES)
