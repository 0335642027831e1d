"""One saved form loads everywhere: with this package and without it, from folders and by id, online and offline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image

import loading_worker
from diffusers_dawn import DAWNPipeline, FaceState, LatentFlowGenerator
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.sharing.hub_export import export_community
from diffusers_dawn.sharing.portable_folder import write_code
from stand_in_hub import StandInHub

# loaded weights lie elsewhere in memory, so sums may be taken in another order; single steps of 8-bit colour are 4e-3
TOLERANCE = {"atol": 1e-4, "rtol": 0}
# not among what diffusers[torch] and transformers need
OPTIONAL = ("av", "einops", "librosa", "mediapipe", "scipy", "soundfile")
CARD = "---\nlibrary_name: diffusers\n---\n\n# What this is\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pipelines saved in all ways, and the frames that each is to make, in `expected.npz`."""
    place = tmp_path_factory.mktemp("saved_form")
    pipe = random_pipeline("tiny")
    pipe.model_card = CARD
    pipe.save_pretrained(place / "saved")
    pipe.save_pretrained(place / "weights", layout="weights")
    write_carded_repository(place / "hub" / "me" / "carded")
    expected = {"whole": loading_worker.frames(pipe, face=FaceState(**loading_worker.FACE))}
    expected["default call"] = loading_worker.frames(pipe, num_inference_steps=None)
    without_pbnet = DAWNPipeline(**pipe.components | {"pbnet": None})
    without_pbnet.save_pretrained(place / "no_pbnet")
    expected["tracks"] = loading_worker.frames(without_pbnet, **loading_worker.TRACKS)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(place / "ddim")
    expected["ddim"] = loading_worker.frames(pipe)
    half = random_pipeline("tiny").to(torch.float16)
    half.save_pretrained(place / "half", variant="fp16", max_shard_size="100KB")
    expected["half"] = loading_worker.frames(half.to(torch.float32))
    for name in ("half", "no_pbnet", "ddim"):
        shutil.copytree(place / name, place / "hub" / "me" / name)
    np.savez(place / "expected.npz", **expected)
    write_inputs(place)
    export_community(place / "dawn.py")
    write_pipeline_without_own_parts(place / "ddim", place / "no_own_parts")
    return place


def write_inputs(place):
    Image.fromarray(loading_worker.picture()).save(place / "portrait.png")
    with av.open(str(place / "speech.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=loading_worker.RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(loading_worker.speech()[None], format="flt", layout="mono")
        frame.sample_rate = loading_worker.RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_carded_repository(folder):
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD.replace("What this is", "a card of its own"))


def write_pipeline_without_own_parts(folder, to):
    """What diffusers loads of a pipeline without any code: its parts from transformers, and its scheduler."""
    shutil.copytree(folder, to)
    (to / "pipeline.py").unlink()
    index = json.loads((to / "model_index.json").read_text()) | {"_class_name": "DAWNPipeline"}
    for name in ("unet", "lfg", "pbnet"):
        del index[name]
        shutil.rmtree(to / name)
    (to / "model_index.json").write_text(json.dumps(index))


def run_worker(place, scenario, home, missing=(), **environment):
    """Run a scenario in a fresh process, whose caches lie in `home`; return what it made by name."""
    alone = {"HF_HOME": str(place / home), "HF_TOKEN": "hf_none", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    quick = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | alone | quick | environment
    words = [sys.executable, loading_worker.__file__, scenario, str(place), ",".join(missing)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(place / f"{scenario}.npz") as arrays:
        return dict(arrays) | json.loads((place / f"{scenario}.json").read_text()) | {"stderr": done.stderr}


@pytest.fixture(scope="module")
def package_online(place):
    with StandInHub(place / "hub") as hub:
        return run_worker(place, "package_online", "home_with_package", HF_ENDPOINT=hub.url)


@pytest.fixture(scope="module")
def alone_online(place, package_online):
    with StandInHub(place / "hub") as hub:
        missing = ("diffusers_dawn", *OPTIONAL)
        return run_worker(place, "alone_online", "home_alone", missing, HF_ENDPOINT=hub.url)


@pytest.fixture(scope="module")
def alone_offline(place, alone_online):
    return run_worker(place, "alone_offline", "home_alone", ("diffusers_dawn",), HF_HUB_OFFLINE="1")


@pytest.fixture(scope="module")
def package_offline(place, alone_online):
    return run_worker(place, "package_offline", "home_with_package", HF_HUB_OFFLINE="1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "name", "expected"),
    [
        ("package_online", "folder", "whole"),
        ("package_online", "id", "whole"),
        ("package_online", "other id", "whole"),
        ("package_online", "weights by id", "whole"),
        ("package_online", "variant in a folder", "half"),
        ("package_online", "variant by id", "half"),
        ("package_online", "no pbnet", "tracks"),
        ("package_online", "another scheduler", "ddim"),
        ("package_online", "given parts", "ddim"),
        ("package_offline", "id", "whole"),
        ("package_offline", "saved again without the package", "whole"),
        ("alone_online", "folder", "whole"),
        ("alone_online", "default call", "default call"),
        ("alone_online", "folder as code", "whole"),
        ("alone_online", "file as code", "whole"),
        ("alone_online", "variant", "half"),
        ("alone_online", "no pbnet", "tracks"),
        ("alone_online", "pbnet left out", "tracks"),
        ("alone_online", "another scheduler", "ddim"),
        ("alone_online", "from_pipe", "whole"),
        ("alone_online", "its own class", "whole"),
        ("alone_online", "community file", "ddim"),
        ("alone_online", "id", "whole"),
        ("alone_online", "id as code", "whole"),
        ("alone_online", "imported file", "whole"),
        ("alone_online", "folder with an id as code", "whole"),
        ("alone_online", "weights and code by id", "whole"),
        ("alone_online", "networks alone, by folders", "whole"),
        ("alone_online", "networks alone, by ids", "whole"),
        ("alone_online", "folder of weights", "whole"),
        ("alone_online", "variant by id", "half"),
        ("alone_online", "no pbnet by id", "tracks"),
        ("alone_online", "another scheduler by id", "ddim"),
        ("alone_online", "pushed again", "whole"),
        ("alone_offline", "cached", "whole"),
        ("alone_offline", "paths", "whole"),
        ("alone_offline", "saved again", "whole"),
        ("alone_offline", "weights saved again", "whole"),
        ("alone_offline", "variant saved again", "half"),
        ("alone_offline", "scheduler saved again", "ddim"),
        ("alone_offline", "community saved again", "ddim"),
    ],
)
def test_loaded_pipeline_makes_the_frames_of_the_original(request, place, scenario, name, expected):
    found = request.getfixturevalue(scenario)[name]
    with np.load(place / "expected.npz") as arrays:
        # ten calls round more than two
        tolerance = {"rtol": 0, "atol": 1e-3} if expected == "default call" else TOLERANCE
        np.testing.assert_allclose(found, arrays[expected], **tolerance)


@pytest.mark.slow
def test_variants_differ(place):
    """Otherwise the claims above would say little."""
    with np.load(place / "expected.npz") as arrays:
        others = ("tracks", "ddim", "half", "default call")
        differences = [np.abs(arrays[name] - arrays["whole"]).max() for name in others]
    assert min(differences) > 10 * TOLERANCE["atol"]


@pytest.mark.slow
def test_code_runs_only_with_trust(alone_online):
    names = ("folder without trust", "id without trust")
    for name in (*names, "networks without trust, by folders", "networks without trust, by ids"):
        assert alone_online[name].startswith("ValueError") and "trust_remote_code=True" in alone_online[name]


@pytest.mark.slow
def test_pipelines_code_comes_from_another_repository_where_the_weights_bring_none(alone_online):
    assert alone_online["code by id"].startswith("diffusers_modules.local.org--dawn-code.")
    # as the docs say, a repository's own code wins
    for name in ("ignored code", "ignored file"):
        assert alone_online[name] == "diffusers_modules.local.pipeline"
    assert "DAWNPipeline" in alone_online["weights without code"]
    assert "trust_remote_code=True" in alone_online["other code without trust"]


@pytest.mark.slow
def test_classes_come_from_the_saved_code(alone_online):
    assert {name.split(".")[0] for name in alone_online["classes"].split()} == {"diffusers_modules"}


@pytest.mark.slow
def test_missing_optional_packages_are_named_only_when_they_are_needed(alone_online):
    for name, missing in (
        ("pictures without a detector", "mediapipe==0.10.14"),
        ("files without a decoder", "av"),
        ("rates without a resampler", "librosa"),
    ):
        assert alone_online[name].startswith("ImportError: ") and f": pip install {missing}" in alone_online[name]
    assert "might require" not in alone_online["stderr"]


@pytest.mark.slow
def test_saved_code_finds_faces_where_mediapipe_is_installed(alone_offline, detector):
    assert "no face found in `image`" in alone_offline["picture without a face"]


@pytest.mark.slow
def test_example_of_the_saved_code_writes_a_video(place, alone_offline):
    frames, fps = read_video(place / "talking.mp4")
    assert (len(frames), fps) == (loading_worker.NUM_FRAMES, 25)
    assert read_waveform(place / "talking.mp4").sample_rate_hz == loading_worker.RATE_HZ


@pytest.mark.slow
def test_loading_imports_no_optional_package(alone_offline):
    assert alone_offline["imported while loading"] == ""


@pytest.mark.slow
def test_name_of_a_loaded_pipeline_is_what_was_asked_for(package_online):
    assert package_online["name"] == "me/saved"


@pytest.mark.slow
def test_uploads_hold_the_code_that_was_saved(place, alone_online):
    code = {path.relative_to(place / "saved"): path.read_text() for path in (place / "saved").rglob("*.py")}
    for name in ("saved", "pushed", "again"):
        folder = place / "hub" / "me" / name
        assert {path.relative_to(folder): path.read_text() for path in folder.rglob("*.py")} == code


@pytest.mark.slow
def test_uploads_carry_the_card_unless_the_repository_has_one(place, package_online):
    assert (place / "pushed" / "README.md").read_text() == CARD
    for name in ("saved", "pushed"):
        assert (place / "hub" / "me" / name / "README.md").read_text() == CARD
    assert "a card of its own" in (place / "hub" / "me" / "carded" / "README.md").read_text()


@pytest.mark.slow
def test_pipelines_saved_without_the_package_keep_their_card(place, alone_online):
    for folder in (place / "saved_again", place / "hub" / "me" / "again"):
        assert (folder / "README.md").read_text() == CARD


@pytest.mark.slow
def test_pipelines_of_the_hub_have_its_card_also_offline(package_online, package_offline):
    for loaded in (package_online, package_offline):
        assert loaded["card"] == CARD and loaded["no card"] == "None"


@pytest.mark.slow
def test_networks_that_are_saved_alone_carry_the_code_of_their_pipeline(place, alone_online):
    code = (place / "saved" / "lfg" / "lfg.py").read_text()
    for folder in (place / "lfg_again", *(place / "hub" / "me" / name for name in ("lfg-alone", "lfg-again"))):
        assert {path.name: path.read_text() for path in folder.rglob("*.py")} == {"lfg.py": code}
        assert json.loads((folder / "config.json").read_text())["auto_map"] == {"AutoModel": "lfg.LatentFlowGenerator"}


def test_code_of_a_saved_network_is_not_part_of_its_config(place):
    saved = json.loads((place / "saved" / "lfg" / "config.json").read_text())
    assert "auto_map" in saved and LatentFlowGenerator.extract_init_dict(saved)[1] == {}  # nothing to warn of
    assert "auto_map" not in LatentFlowGenerator.from_pretrained(place / "saved" / "lfg").config


def test_index_names_the_files_that_lie_beside_the_weights(place):
    index = json.loads((place / "saved" / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "DAWNPipeline"]
    files = {str(path.relative_to(place / "saved")) for path in (place / "saved").rglob("*.py")}
    own = [name for name, value in index.items() if isinstance(value, list) and f"{name}/{value[0]}.py" in files]
    assert own == ["lfg", "pbnet", "scheduler", "unet"]
    assert len(files) == 1 + len(own)


def test_weights_come_with_the_code_of_the_networks_only(place):
    index = json.loads((place / "weights" / "model_index.json").read_text())
    assert index["_class_name"] == "DAWNPipeline"
    whole, weights = (
        {str(path.relative_to(place / name)) for path in (place / name).rglob("*.py")} for name in ("saved", "weights")
    )
    assert whole - weights == {"pipeline.py"} and weights < whole


def test_unknown_layouts_are_refused(place, tmp_path):
    pipe = DAWNPipeline.from_pretrained(place / "saved")
    for save in (pipe.save_pretrained, pipe.push_to_hub):
        with pytest.raises(ValueError, match="`layout` is 'code', must be one of whole, weights"):
            save(str(tmp_path / "there"), layout="code")
    assert not (tmp_path / "there").exists()


def test_replaced_scheduler_of_diffusers_needs_no_code(place):
    index = json.loads((place / "ddim" / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]
    assert not list((place / "ddim" / "scheduler").glob("*.py"))


def test_folder_of_earlier_versions_that_names_modules_loads(place, tmp_path):
    shutil.copytree(place / "saved", tmp_path, dirs_exist_ok=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index |= {"_class_name": "DAWNPipeline", "unet": ["diffusers_dawn.models.a2v_fdm", "A2VFlowDiffusionModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert DAWNPipeline.from_pretrained(tmp_path).unet is not None


def test_pipeline_is_made_of_the_components_of_another(place):
    pipe = DAWNPipeline.from_pretrained(place / "saved")
    assert DAWNPipeline(**pipe.components).components == pipe.components
    other = DAWNPipeline.from_pipe(pipe)
    assert all(other.components[name] is part for name, part in pipe.components.items() if name != "scheduler")
    # which has the state of one call
    assert other.scheduler is not pipe.scheduler and other.scheduler.config == pipe.scheduler.config
    without = DAWNPipeline.from_pipe(pipe, pbnet=None)
    assert without.pbnet is None and without.unet is pipe.unet


def test_pipeline_made_of_another_keeps_its_card(place, tmp_path):
    pipe = DAWNPipeline.from_pretrained(place / "saved")
    made = DAWNPipeline.from_pipe(pipe)
    assert made.model_card == CARD
    made.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == CARD
    pipe.model_card = None
    assert DAWNPipeline.from_pipe(pipe).model_card is None


def test_card_is_found_where_diffusers_loaded_the_pipeline_from_and_none_where_that_is_gone(place, tmp_path):
    shutil.copytree(place / "saved", tmp_path / "here")
    pipe = DAWNPipeline.from_pretrained(tmp_path / "here")
    del pipe.model_card  # as `DiffusionPipeline.from_pretrained` leaves it
    for made in (pipe, DAWNPipeline.from_pipe(pipe)):
        made.save_config(tmp_path / "there")
        assert (tmp_path / "there" / "README.md").read_text() == CARD
        shutil.rmtree(tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    pipe.save_config(tmp_path / "there")
    assert not (tmp_path / "there" / "README.md").exists()


def test_config_alone_comes_with_its_code(place, tmp_path):
    DAWNPipeline.from_pretrained(place / "saved").save_config(tmp_path)
    assert (tmp_path / "pipeline.py").is_file() and (tmp_path / "unet" / "a2v_fdm.py").is_file()


def test_classes_of_others_are_saved_without_code_and_with_a_warning(place, tmp_path):
    class OwnPipeline(DAWNPipeline):
        pass

    pipe = OwnPipeline.from_pretrained(place / "saved")
    with pytest.warns(UserWarning, match=f"code of {__name__} is not saved"):
        pipe.save_pretrained(tmp_path)
    assert not Path(tmp_path, "pipeline.py").exists()
    assert type(OwnPipeline.from_pretrained(tmp_path)) is OwnPipeline
    assert isinstance(OwnPipeline.from_pretrained(tmp_path), DiffusionPipeline)


def test_installed_classes_win_over_the_code_of_a_folder(place, tmp_path):
    shutil.copytree(place / "saved", tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("*.py"):
        path.write_text("raise RuntimeError('the code of the folder was run')")
    assert type(DAWNPipeline.from_pretrained(tmp_path).unet).__module__ == "diffusers_dawn.models.a2v_fdm"


def test_code_that_was_overwritten_since_is_not_saved(place, tmp_path, monkeypatch):
    # as when another folder's pipeline.py was loaded after this one's
    module = type(sys)("diffusers_modules.local.pipeline")
    module.__file__ = str(tmp_path / "other.py")
    Path(module.__file__).write_text("class OtherPipeline:\n    pass\n")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    remote_class = type("DAWNPipeline", (DAWNPipeline,), {"__module__": module.__name__})
    with pytest.raises(ValueError, match="DAWNPipeline was loaded from .*other.py, whose code has changed since"):
        write_code("{}", remote_class, tmp_path)


def test_face_may_be_given_as_a_dict(place):
    pipe = DAWNPipeline.from_pretrained(place / "saved")
    portrait = pipe.prepare_portrait(loading_worker.picture(), loading_worker.FACE)
    assert portrait.face == FaceState(**loading_worker.FACE)
    with pytest.raises(ValueError, match=r"`face` has \['pose'\], must have the fields of a `FaceState`"):
        pipe.prepare_portrait(loading_worker.picture(), {"pose": [0] * 6})
