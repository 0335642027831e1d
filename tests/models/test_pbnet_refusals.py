import pytest
import torch
from tiny_pbnet import AUDIO_DIM, make_audio, make_initial, make_model, seeded


def test_unknown_kind_of_networks_is_an_error():
    with pytest.raises(ValueError, match=r"`networks` is 'both', must be one of 'separate'"):
        make_model(networks="both")


def test_clips_of_no_frames_in_training_are_an_error():
    with pytest.raises(ValueError, match="`clip_frames` is 0"):
        make_model(clip_frames=0)


def test_latents_of_no_frames_are_an_error():
    with pytest.raises(ValueError, match="`latent_stride` is 0, must be a whole number from 1"):
        make_model(latent_stride=0)


def test_blink_sizes_with_another_name_is_an_error():
    with pytest.raises(ValueError, match=r"`blink_sizes` has audio_dim, may only have"):
        make_model(blink_sizes={"audio_dim": 3})


def test_encoding_without_encoder_is_an_error():
    with pytest.raises(ValueError, match="no encoder"):
        make_model(with_encoder=False).encode(make_audio(1, 3), torch.rand(1, 3, 8))


@pytest.mark.parametrize("shape", [(3, AUDIO_DIM), (1, 0, AUDIO_DIM), (0, 3, AUDIO_DIM), (1, 3, AUDIO_DIM + 1)])
def test_audio_features_of_another_shape_are_an_error(shape):
    with pytest.raises(ValueError, match=r"`audio_features` is \("):
        make_model().generate(torch.zeros(shape), *make_initial(1))


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("sequence", {"sequence": torch.zeros(1, 3, 6)}),
        ("noise", {"noise": torch.zeros(1, 4, 16)}),
        ("lengths", {"lengths": torch.tensor([3, 3])}),
    ],
)
def test_training_inputs_of_another_shape_are_an_error(name, inputs):
    good = {"sequence": torch.zeros(1, 3, 8), "noise": torch.zeros(1, 3, 16), "lengths": None}
    with pytest.raises(ValueError, match=rf"`{name}` is \("):
        make_model()(make_audio(1, 3), **good | inputs)


@pytest.mark.parametrize("lengths", [[0, 3], [3, 4]])
def test_lengths_outside_the_clip_are_an_error(lengths):
    with pytest.raises(ValueError, match=r"`lengths` is \[.*within 1 and 3"):
        make_model().generate(make_audio(2, 3), *make_initial(2), lengths=torch.tensor(lengths))


@pytest.mark.parametrize("name", ["initial_pose", "initial_blink"])
@pytest.mark.parametrize("value", [None, torch.zeros(2, 6), torch.zeros(1, 3)])
def test_initial_state_missing_or_of_another_shape_is_an_error(name, value):
    initial = dict(zip(("initial_pose", "initial_blink"), make_initial(1), strict=True))
    with pytest.raises(ValueError, match=f"`{name}` is"):
        make_model().generate(make_audio(1, 3), **initial | {name: value})


@pytest.mark.parametrize(("name", "shape"), [("latent", (1, 3, 8)), ("initial_state", (1, 6))])
def test_decoder_inputs_of_another_shape_are_an_error(name, shape):
    good = {"latent": torch.zeros(1, 3, 16), "initial_state": torch.zeros(1, 8)}
    with pytest.raises(ValueError, match=f"`{name}` is"):
        make_model().decode(audio_features=make_audio(1, 3), **good | {name: torch.zeros(shape)})


def test_noise_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"`noise` is \(3, 1, 16\), must be \(1, 3, 16\)"):
        make_model().generate(make_audio(1, 3), *make_initial(1), noise=torch.zeros(3, 1, 16))


def test_another_number_of_generators_is_an_error():
    with pytest.raises(ValueError, match=r"`generator` has 1 generators, must be one, or 2"):
        make_model().generate(make_audio(2, 3), *make_initial(2), generator=[seeded(0)])
