import torch
from torch import nn

from training.data.clip_shards import ClipShards
from training.evaluation.provenance import split_digest, versions, weights_digest


def test_digest_is_of_the_weights_alone():
    torch.manual_seed(0)
    network, other = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    assert weights_digest(network) != weights_digest(other)
    other.load_state_dict(network.state_dict())
    assert weights_digest(network) == weights_digest(other.eval())
    assert weights_digest(network) != weights_digest(other.half())


def test_digest_of_a_split_tells_its_clips_apart(tiny_data_set, moving_data_set):
    tests, training = (ClipShards(tiny_data_set, split).entries for split in ("test", "train"))
    digests = [split_digest(entries) for entries in (tests, training, ClipShards(moving_data_set, "train").entries)]
    assert len(set(digests)) == 3 and split_digest(tests) == digests[0]


def test_versions_are_those_that_are_installed():
    found = versions()
    assert found["torch"] == torch.__version__ and "python" in found and None not in found.values()
