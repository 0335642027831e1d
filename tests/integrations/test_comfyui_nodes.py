"""The nodes for ComfyUI, in a small host that does what ComfyUI documents for nodes; a tiny network."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import loading_worker
from diffusers_dawn import DAWNPipeline, FaceState, write_video
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import read_video

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
NUM_FRAMES, RATE_HZ = 10, loading_worker.RATE_HZ
LINK = (list, tuple)


class Interrupted(Exception):
    """What ComfyUI raises where a node asks whether it was cancelled."""


@pytest.fixture(scope="module")
def pack():
    spec = importlib.util.spec_from_file_location(
        "dawn_nodes", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["dawn_nodes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def host(pack, tiny_pipe, tmp_path, monkeypatch):
    """Modules of ComfyUI that nodes use, its own nodes for files, and the pack's."""
    host = types.SimpleNamespace(steps=[], cancelled=False, output=tmp_path / "output")

    def throw_exception_if_processing_interrupted():
        if host.cancelled:
            raise Interrupted

    class ProgressBar:
        def __init__(self, total):
            self.total = total

        def update(self, value):
            host.steps.append((value, self.total))

    def get_save_image_path(prefix, folder, width=0, height=0):
        Path(folder).mkdir(exist_ok=True)
        return str(folder), prefix, 1, "", prefix

    management = {"get_torch_device": lambda: torch.device("cpu")}
    management["throw_exception_if_processing_interrupted"] = throw_exception_if_processing_interrupted
    paths = {"get_save_image_path": get_save_image_path, "get_output_directory": lambda: str(host.output)}
    for name, values in (
        ("comfy", {}),
        ("comfy.model_management", management),
        ("comfy.utils", {"ProgressBar": ProgressBar}),
        ("folder_paths", paths),
    ):
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    tiny_pipe.save_pretrained(tmp_path / "tiny")
    monkeypatch.setattr(
        sys.modules["dawn_nodes.nodes"].DAWNPipeline,
        "detect_faces",
        lambda self, picture: [FaceState(**loading_worker.FACE)],
    )
    host.nodes = pack.NODE_CLASS_MAPPINGS | {
        "LoadImage": own_node(("IMAGE",), torch.from_numpy(loading_worker.picture())[None].float() / 255),
        "LoadAudio": own_node(("AUDIO",), {"waveform": sound()[None, None], "sample_rate": RATE_HZ}),
        "PreviewImage": own_node((), None, images="IMAGE"),
    }
    host.workflow = json.loads((PACK / "workflow.json").read_text(encoding="utf-8"))
    host.workflow["1"]["inputs"]["checkpoint"] = str(tmp_path / "tiny")
    host.workflow["7"]["inputs"]["keyframes"] = "0.2: yaw_deg 15"  # the clip is shorter than the example's
    return host


def own_node(returns, value, **inputs):
    """A node of ComfyUI itself."""
    names = {"INPUT_TYPES": classmethod(lambda cls: {"required": {k: (v,) for k, v in inputs.items()}})}
    return type("Node", (), names | {"RETURN_TYPES": returns, "FUNCTION": "run", "run": lambda self, **_: (value,)})


def sound():
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, NUM_FRAMES * RATE_HZ // 25).astype(np.float32))


def run(host):
    """Run a workflow: nodes whose inputs are there; every link is checked for its type, every value for its range."""
    results = {}
    while len(results) < len(host.workflow):
        ready = [
            key
            for key, node in host.workflow.items()
            if key not in results and all(v[0] in results for v in node["inputs"].values() if isinstance(v, LINK))
        ]
        assert ready, "the workflow has a circle"
        for key in ready:
            node, kind = host.workflow[key], host.nodes[host.workflow[key]["class_type"]]
            declared = kind.INPUT_TYPES()
            taken = declared.get("required", {}) | declared.get("optional", {})
            arguments = {}
            for name, value in node["inputs"].items():
                if isinstance(value, LINK):
                    source = host.nodes[host.workflow[value[0]]["class_type"]]
                    assert source.RETURN_TYPES[value[1]] == taken[name][0], (key, name)
                    value = results[value[0]][value[1]]
                elif name in taken:
                    check_value(value, *taken[name])
                arguments[name] = value
            assert set(declared.get("required", {})) <= set(arguments), (key, "lacks a required input")
            made = getattr(kind(), kind.FUNCTION)(**arguments)
            assert isinstance(made, dict) or kind.RETURN_TYPES == () or len(made) == len(kind.RETURN_TYPES)
            results[key] = made
    return results


def check_value(value, kind, options=None):
    if isinstance(kind, list):
        assert value in kind
    else:
        assert isinstance(value, {"STRING": str, "INT": int, "FLOAT": float}[kind])
    for name, holds in (("min", lambda limit: value >= limit), ("max", lambda limit: value <= limit)):
        assert name not in (options or {}) or holds(options[name])


def test_workflow_writes_a_talking_video(host):
    results = run(host)
    frames, audio, fps = results["8"]
    assert frames.shape == (NUM_FRAMES, 64, 64, 3) and frames.dtype == torch.float32
    assert frames.min() >= 0 and frames.max() <= 1 and fps == 25
    assert audio["waveform"].shape == (1, 1, NUM_FRAMES * RATE_HZ // 25) and audio["sample_rate"] == RATE_HZ
    assert host.steps and len(host.steps) == host.steps[0][1]
    (shown,) = results["9"]["ui"]["images"]
    video, rate = read_video(host.output / shown["filename"])
    assert (len(video), rate) == (NUM_FRAMES, 25)
    assert read_waveform(host.output / shown["filename"]).sample_rate_hz == RATE_HZ


@pytest.mark.parametrize(("of_the_node", "of_the_call"), [(0.0, None), (1.0, 1.0)])
def test_nodes_make_what_the_pipeline_makes(host, tiny_pipe, of_the_node, of_the_call):
    tiny_pipe.register_to_config(speech_guidance=3.0)
    checkpoint = host.workflow["1"]["inputs"]["checkpoint"]
    tiny_pipe.save_pretrained(checkpoint)
    host.workflow["8"]["inputs"]["speech_guidance"] = of_the_node
    del host.workflow["8"]["inputs"]["motion"]
    host.workflow["4"]["inputs"]["crop"] = "never"  # as where the face is given
    found = run(host)["8"][0]
    generator = torch.Generator().manual_seed(0)
    face = FaceState(**loading_worker.FACE)
    expected = DAWNPipeline.from_pretrained(checkpoint)(
        loading_worker.picture(),
        (sound().numpy(), RATE_HZ),
        face=face,
        preset="balanced",
        guidance_scale=of_the_call,
        output_type="pt",
        generator=generator,
    )
    torch.testing.assert_close(found, expected.frames[0].permute(0, 2, 3, 1), atol=1e-5, rtol=0)


def test_motion_may_come_from_a_video(host, tmp_path):
    write_video(tmp_path / "film.mp4", np.stack([loading_worker.picture()] * NUM_FRAMES))
    inputs = {"pipeline": ["1", 0], "speech": ["5", 0], "video": str(tmp_path / "film.mp4")}
    host.workflow["7"] = {"class_type": "DAWNMotionFromVideo", "inputs": inputs}
    (track,) = run(host)["7"]
    # the host's detector sees one face that never moves
    assert len(track.pose) == NUM_FRAMES and np.ptp(track.pose, axis=0).max() < 1e-3


def test_cancelling_ends_rendering_after_a_step(host):
    host.cancelled = True
    with pytest.raises(Interrupted):
        run(host)
    assert len(host.steps) == 1


def test_every_node_has_a_name_and_describes_itself(pack):
    assert pack.NODE_CLASS_MAPPINGS.keys() == pack.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert node.__doc__ and node.CATEGORY == "DAWN" and callable(getattr(node, node.FUNCTION))
        assert len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))


@pytest.mark.parametrize("line", ["nod", "x: yaw_deg 3", "1: yaw_deg", "1: yaw_deg much"])
def test_keyframes_that_are_not_understood_are_refused(pack, line):
    with pytest.raises(ValueError, match="`keyframes` has the line"):
        sys.modules["dawn_nodes.nodes"].read_keyframes(line)


def test_missing_video_is_refused(pack):
    with pytest.raises(ValueError, match="`video` is 'nothing.mp4', must be a video file"):
        pack.NODE_CLASS_MAPPINGS["DAWNMotionFromVideo"]().take(None, (None, []), "nothing.mp4")
