"""The mouth that a denoiser reads from speech, and is told of beside it."""

from copy import deepcopy

import pytest
import torch
from tiny_a2v import TINY, inputs_for
from torch.nn import functional

from diffusers_dawn.models.a2v_fdm import A2VFlowDiffusionModel
from diffusers_dawn.models.condition_attention import PROPORTION, ConditionCrossAttention, ConditionMixer
from diffusers_dawn.models.mouth_reader import MouthReader


@pytest.fixture
def model() -> A2VFlowDiffusionModel:
    torch.manual_seed(0)
    return A2VFlowDiffusionModel(**TINY, mouth_reader_channels=8).eval()


@torch.no_grad()
def test_without_a_mouth_it_is_read_from_speech(model):
    inputs = inputs_for()
    mouth = model.mouth_reader(inputs["audio_features"])
    assert mouth.shape == (*inputs["audio_features"].shape[:2], 2)
    torch.testing.assert_close(model(**inputs, mouth=mouth).sample, model(**inputs).sample)
    other = model(**inputs, mouth=mouth + 1).sample
    assert (other - model(**inputs).sample).abs().max() > 1e-3


@torch.no_grad()
def test_frames_without_speech_are_told_of_no_mouth(model):
    inputs = inputs_for()
    inputs["audio_features"] = torch.zeros_like(inputs["audio_features"])
    mouth = torch.ones(*inputs["audio_features"].shape[:2], 2)
    torch.testing.assert_close(model(**inputs, mouth=mouth).sample, model(**inputs).sample)


def test_what_is_read_is_told_within_what_mouths_do(model):
    inputs = inputs_for()
    last = model.mouth_reader.linear_out
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([9.0, -9.0]))
        told = model(**inputs).sample
        widest = torch.tensor([(0.12 - 0.025) / 0.025, -0.05 / 0.02]).expand(*inputs["audio_features"].shape[:2], 2)
        torch.testing.assert_close(told, model(**inputs, mouth=widest).sample)
        # what somebody tells is theirs
        assert not torch.allclose(told, model(**inputs, mouth=3 * widest).sample)


def test_a_reader_sees_as_many_frames_as_its_layers_reach():
    torch.manual_seed(0)
    reader = MouthReader(16, 8, num_layers=2).eval()
    speech = torch.randn(1, 20, 16, requires_grad=True)
    reader(speech)[0, 10].sum().backward()
    seen = speech.grad[0].abs().amax(dim=-1).nonzero()[:, 0]
    assert (seen.min(), seen.max()) == (6, 14)


@pytest.mark.parametrize("shape", [(2, 1, 2), (2, 4, 3), (4, 2)])
def test_a_mouth_of_other_frames_or_width_is_refused(model, shape):
    with pytest.raises(ValueError, match="`mouth` is .*, must be"):
        model(**inputs_for(), mouth=torch.zeros(shape))


def test_a_mouth_for_a_denoiser_that_is_told_of_none_is_refused():
    with pytest.raises(ValueError, match="`mouth` is given, but this denoiser is told of no mouth"):
        A2VFlowDiffusionModel(**TINY)(**inputs_for(), mouth=torch.zeros(1))


def test_a_reader_without_channels_is_refused():
    with pytest.raises(ValueError, match="`mouth_reader_channels` is 0, must be a whole number from 1"):
        A2VFlowDiffusionModel(**TINY, mouth_reader_channels=0)


def test_both_signs_of_a_condition_are_embedded_alike_at_first():
    attention = ConditionCrossAttention(3, 8, 8, num_heads=2, head_dim=4, both_signs=True)
    condition = torch.randn(5, 3)
    embedded = attention.embed(functional.silu(torch.cat((condition, -condition), dim=-1)))
    linear = functional.linear(condition, attention.embed.weight[:, :3], attention.embed.bias)
    torch.testing.assert_close(embedded, linear)


@torch.no_grad()
def test_a_signed_condition_answers_in_proportion_and_not_at_all_to_zero():
    torch.manual_seed(0)
    mixer = ConditionMixer({"audio": 5, "pose": 3}, 8, 8, 2, 4, signed_conditions=frozenset({"pose"}))
    silenced = deepcopy(mixer)
    layer = mixer.attentions["pose"].proportional
    layer.weight.normal_()
    x, audio, pose = torch.randn(1, 2, 3, 3, 8), torch.randn(1, 2, 5), torch.randn(1, 2, 3)

    def added(pose: torch.Tensor) -> torch.Tensor:
        answers = [
            one(torch.zeros_like(x), x, one.project({"audio": audio, "pose": pose})) for one in (mixer, silenced)
        ]
        return answers[0] - answers[1]

    torch.testing.assert_close(added(0 * pose), torch.zeros_like(x))
    # without heads there is one vector for all pixels; the constant's share is a half
    layer.weight[8:] = 0
    constant = layer(PROPORTION * pose)[..., :8] / 2
    torch.testing.assert_close(added(pose), constant[:, :, None, None].expand(x.shape))
    torch.testing.assert_close(added(2 * pose), 2 * added(pose))
