"""DAWN as blocks: they make the pipeline's frames, and each can be swapped; a tiny network."""

import json

import numpy as np
import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, AutoGuidance, ClassifierFreeGuidance, ComponentsManager, DDIMScheduler
from diffusers.modular_pipelines import ModularPipelineBlocks

import loading_worker
from diffusers_dawn import DAWNBlocks, DAWNModularPipeline, FaceState
from diffusers_dawn.modular.block_inputs import makes, takes
from diffusers_dawn.modular.block_stages import GuidedBy

INPUTS = {
    "image": loading_worker.picture(),
    "audio": loading_worker.speech(),
    "sampling_rate": loading_worker.RATE_HZ,
    "face": FaceState(**loading_worker.FACE),
    "num_inference_steps": 2,
    "output_type": "pt",
}


class OwnPoses(ModularPipelineBlocks):
    """As in `docs/modular.md`, with fixed tracks."""

    @property
    def inputs(self):
        return takes(needs=("portraits", "audio_embeds"))

    @property
    def intermediate_outputs(self):
        return makes("pose", "blink")

    def __call__(self, components, state):
        block = self.get_block_state(state)
        block.pose, block.blink = (loading_worker.TRACKS[name] for name in ("pose", "blink"))
        self.set_block_state(state, block)
        return components, state


@pytest.fixture(scope="module")
def modular(tiny_pipe):
    made = DAWNModularPipeline.from_pipe(tiny_pipe)
    made.set_progress_bar_config(disable=True)
    return made


def call(pipe, **arguments):
    return pipe(**INPUTS | {"generator": torch.Generator().manual_seed(0)} | arguments)


def two_clips():
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    pictures = [loading_worker.picture(), loading_worker.picture()[::-1].copy()]
    return {"image": pictures, "generator": generators, "motion": "head motion 0.5"}


@pytest.mark.parametrize("arguments", [dict, lambda: {"num_inference_steps": None}, two_clips])
def test_blocks_make_what_the_pipeline_makes(tiny_pipe, modular, arguments):
    expected, found = call(tiny_pipe, **arguments()), call(modular, **arguments())
    assert torch.equal(found.videos, expected.frames)
    assert torch.equal(found.pose.cpu(), torch.stack(expected.pose))
    assert found.fps == expected.fps and found.sound_rate == expected.sampling_rate
    for own, others in zip(found.sound, expected.audio, strict=True):
        np.testing.assert_array_equal(own, others)


def test_windows_are_those_of_the_pipeline(tiny_pipe, modular):
    tiny_pipe.enable_windows(4, 2)
    expected = call(tiny_pipe).frames
    tiny_pipe.enable_windows()
    assert torch.equal(call(modular, window_frames=4, window_overlap=2).videos, expected)


def test_every_input_and_output_is_described_and_comes_from_somewhere():
    made, asked = set(), {value.name for value in DAWNBlocks().inputs}
    for block in DAWNBlocks().sub_blocks.values():
        values = [*block.inputs, *block.intermediate_outputs]
        assert block.description and all(value.description and value.type_hint is not None for value in values)
        assert all(component.description for component in block.expected_components)
        assert {value.name for value in block.inputs} <= made | asked
        made |= {value.name for value in block.intermediate_outputs}


def test_poses_of_ones_own_go_in_the_place_of_pbnets(tiny_pipe, modular):
    blocks = DAWNBlocks()
    blocks.sub_blocks["motion"] = OwnPoses()
    own = DAWNModularPipeline.from_pipe(tiny_pipe, blocks)
    own.set_progress_bar_config(disable=True)
    assert "pbnet" not in own.components
    found = call(own).videos
    assert torch.equal(found, call(modular, **loading_worker.TRACKS).videos)
    assert not torch.equal(found, call(modular).videos)


def test_a_guider_takes_the_place_of_the_guidance_scale(tiny_pipe):
    guided = DAWNModularPipeline.from_pipe(tiny_pipe)
    guided.set_progress_bar_config(disable=True)
    guided.update_components(guider=ClassifierFreeGuidance(guidance_scale=2.0))
    torch.testing.assert_close(call(guided).videos, call(tiny_pipe, guidance_scale=2.0).frames, atol=1e-5, rtol=0)
    # which is left out of the first step
    guided.update_components(guider=ClassifierFreeGuidance(guidance_scale=2.0, start=0.5))
    assert not torch.allclose(call(guided).videos, call(tiny_pipe, guidance_scale=2.0).frames, atol=1e-5)


def test_a_guider_that_stops_early_guides_the_next_call_too(tiny_pipe):
    guided = DAWNModularPipeline.from_pipe(tiny_pipe)
    guided.set_progress_bar_config(disable=True)
    guided.update_components(guider=ClassifierFreeGuidance(guidance_scale=2.0, stop=0.5))
    first = call(guided).videos
    assert torch.equal(call(guided).videos, first)
    assert not torch.allclose(first, call(tiny_pipe).frames, atol=1e-5)


def test_several_windows_want_a_guider_without_memory(tiny_pipe):
    guided = DAWNModularPipeline.from_pipe(tiny_pipe)
    guided.update_components(guider=AdaptiveProjectedGuidance(guidance_scale=2.0))
    with pytest.raises(ValueError, match="`guider` is a AdaptiveProjectedGuidance, must be a ClassifierFreeGuidance"):
        call(guided, window_frames=4, window_overlap=2)


def test_guiders_that_change_the_denoiser_are_refused():
    with pytest.raises(ValueError, match="`guider` is a AutoGuidance, must be one that combines"):
        GuidedBy(AutoGuidance(auto_guidance_layers=["middle"], dropout=0.1))


def test_components_are_shared_through_a_manager(tiny_pipe, tmp_path):
    tiny_pipe.save_pretrained(tmp_path)
    manager = ComponentsManager()
    loaded = DAWNModularPipeline.from_pretrained(tmp_path, components_manager=manager, collection="dawn")
    loaded.load_components(dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    names = {"unet", "lfg", "pbnet", "audio_encoder", "feature_extractor", "scheduler"}
    assert {manager.get_one(name=name, collection="dawn") is getattr(loaded, name) for name in names} == {True}
    # the audio encoder is loaded with another attention kernel
    torch.testing.assert_close(call(loaded).videos, call(tiny_pipe).frames, atol=1e-3, rtol=0)


def test_components_that_are_not_loaded_are_named():
    with pytest.raises(ValueError, match=r"`audio_encoder` is not loaded: call `load_components"):
        call(DAWNModularPipeline())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"audio": None}, "give either `audio` or `audio_embeds`"),
        ({"face": [loading_worker.FACE] * 3}, "`face` has 3 entries, must have one, or one per picture: 1"),
        ({"sampling_rate": [16_000] * 3}, "`sampling_rate` has 3 entries, must have one, or one per recording: 1"),
        (
            {"audio": [loading_worker.speech(), loading_worker.speech()[:1300]]},
            "`audio` lasts 2 to 6 frames, must be of one length: give `num_frames`",
        ),
    ],
)
def test_what_blocks_cannot_do_is_refused(modular, arguments, message):
    with pytest.raises(ValueError, match=message):
        call(modular, **arguments)


def test_saved_index_names_nothing_of_this_package(tiny_pipe, tmp_path):
    modular = DAWNModularPipeline.from_pipe(tiny_pipe)
    modular.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "modular_model_index.json").read_text())
    assert index["_class_name"] == "ModularPipeline"
    hints = {name: value[2]["type_hint"] for name, value in index.items() if isinstance(value, list)}
    assert hints["unet"] == hints["lfg"] == hints["pbnet"] == [None, None]
    assert hints["scheduler"] == ["dawn_blocks", "DAWNDDIMScheduler"]
    assert json.loads((tmp_path / "modular_config.json").read_text())["auto_map"] == {
        "ModularPipelineBlocks": "blocks.DAWNBlocks"
    }
    modular.update_components(scheduler=DDIMScheduler.from_config(tiny_pipe.scheduler.config))
    modular.save_pretrained(tmp_path / "ddim")
    index = json.loads((tmp_path / "ddim" / "modular_model_index.json").read_text())
    assert index["scheduler"][2]["type_hint"] == ["diffusers", "DDIMScheduler"]
