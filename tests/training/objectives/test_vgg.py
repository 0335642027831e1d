import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.objectives.vgg import VGG19Features, load_vgg19

# convolutions of torchvision's vgg19 by their place in `features`: channels in and out
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512),
    30: (512, 512), 32: (512, 512), 34: (512, 512),
}  # fmt: skip


@pytest.fixture(scope="module")
def state_dict() -> dict[str, torch.Tensor]:
    """A random state dict with torchvision's keys, the classifier tiny."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, (channels_in, channels_out) in CONVOLUTIONS.items():
        scale = (2 / (9 * channels_in)) ** 0.5
        tensors[f"features.{index}.weight"] = scale * torch.randn(channels_out, channels_in, 3, 3, generator=generator)
        tensors[f"features.{index}.bias"] = 0.1 * torch.randn(channels_out, generator=generator)
    return tensors | {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}


def reference_features(state_dict: dict[str, torch.Tensor], image: torch.Tensor) -> list[torch.Tensor]:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x, maps = (image - mean[:, None, None]) / std[:, None, None], []
    for index in range(30):
        if index in CONVOLUTIONS:
            x = nn.functional.conv2d(
                x, state_dict[f"features.{index}.weight"], state_dict[f"features.{index}.bias"], padding=1
            ).relu()
            if index in (0, 5, 10, 19, 28):
                maps.append(x)
        elif index in (4, 9, 18, 27):
            x = nn.functional.max_pool2d(x, 2)
    return maps


def test_features_are_those_of_torchvisions_layers(state_dict, tmp_path):
    torch.save(state_dict, tmp_path / "vgg19.pth")
    vgg, image = load_vgg19(tmp_path / "vgg19.pth"), torch.rand(2, 3, 32, 48)
    maps, expected = vgg(image), reference_features(state_dict, image)
    assert [tuple(m.shape) for m in maps] == [
        (2, 64, 32, 48), (2, 128, 16, 24), (2, 256, 8, 12), (2, 512, 4, 6), (2, 512, 2, 3)
    ]  # fmt: skip
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_safetensors_folders_and_pickles_give_the_same(state_dict, tmp_path):
    save_file(state_dict, tmp_path / "model.safetensors")
    torch.save(state_dict, tmp_path / "vgg19.pth")  # where both are, safetensors is taken
    from_file, from_folder = load_vgg19(str(tmp_path / "model.safetensors")), load_vgg19(tmp_path)
    from_pickle = load_vgg19(tmp_path / "vgg19.pth")
    for key, value in from_file.state_dict().items():
        assert torch.equal(value, from_folder.state_dict()[key]) and torch.equal(value, from_pickle.state_dict()[key])


def test_it_is_frozen_but_images_receive_gradients():
    vgg, image = VGG19Features(), torch.rand(1, 3, 16, 16, requires_grad=True)
    vgg(image)[-1].sum().backward()
    assert image.grad.abs().sum() > 0
    assert not vgg.training and not any(parameter.requires_grad for parameter in vgg.parameters())


def test_only_the_convolutions_up_to_relu5_1_are_kept(state_dict):
    needed = {key for key in state_dict if key.startswith("features.") and int(key.split(".")[1]) <= 28}
    assert VGG19Features().state_dict().keys() == needed


def test_images_too_small_or_not_rgb_are_refused():
    vgg = VGG19Features()
    for shape in ((1, 3, 15, 32), (1, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match="`image` is .* H and W at least 16"):
            vgg(torch.rand(shape))


def test_missing_and_misshapen_tensors_are_named(state_dict, tmp_path):
    lacking = {key: value for key, value in state_dict.items() if key != "features.28.bias"}
    save_file(lacking | {"features.0.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"missing .*`features.28.bias`.*`features.0.bias` is \(3,\), must be \(64,\)"
    ):
        load_vgg19(tmp_path)


def test_another_networks_tensors_are_refused(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="missing 26 key.*unexpected .*`encoder.weight`"):
        load_vgg19(tmp_path)


def test_missing_files_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="`vgg` .*nothing.pth is neither a file nor a folder"):
        load_vgg19(tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="`vgg` weights.safetensors is neither a file nor a folder"):
        load_vgg19("weights.safetensors")
    with pytest.raises(ValueError, match="holds no .safetensors or .pth file"):
        load_vgg19(tmp_path)


def test_a_folder_with_several_files_is_refused(state_dict, tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(ValueError, match="holds a.safetensors, b.safetensors; name the file instead"):
        load_vgg19(tmp_path)


def test_without_network_a_hub_id_that_is_not_cached_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="`vgg` someone/vgg19 is neither .* cannot be fetched from the Hub"):
        load_vgg19("someone/vgg19", local_files_only=True)


def test_files_that_hold_no_tensors_or_code_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.safetensors cannot be read as safetensors"):
        load_vgg19(tmp_path / "broken.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="list.pth must hold a dict of tensors"):
        load_vgg19(tmp_path / "list.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ValueError, match="code.pth is refused"):
        load_vgg19(tmp_path / "code.pth")
