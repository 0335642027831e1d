"""Pipelines with random weights: to try the commands, to test, to start a training from."""

import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ..models.a2v_fdm import A2VFlowDiffusionModel
from ..models.lfg import LatentFlowGenerator
from ..models.pbnet import PoseBlinkNet
from ..pipeline.pipeline_dawn import DAWNPipeline
from ..sampling.scheduling_dawn_ddim import DAWNDDIMScheduler

# what differs from the published 128 px sizes, which are the models' defaults
_SIZES = {
    "tiny": {
        "unet": {
            "sample_size": 16,
            "reference_channels": 32,
            "face_location_channels": 16,
            "block_out_channels": (16, 32),
            "audio_dim": 32,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "temporal_window": 20,
        },
        "lfg": {
            "image_size": 64,
            "num_regions": 5,
            "block_out_channels": (8, 16, 32),
            "num_bottleneck_blocks": 2,
            "flow_channels": (8, 16, 32, 64),
            "region_channels": (8, 16, 32, 64),
            "background_channels": (8, 16, 32, 64),
        },
        "pbnet": {
            "audio_dim": 32,
            "latent_dim": 32,
            "state_width": 16,
            "audio_width": 32,
            "decoder_width": 32,
            "feed_forward_dim": 48,
        },
        "audio_encoder": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "conv_dim": (16,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
    },
    "128": {},
    "256": {"unet": {"sample_size": 64}, "lfg": {"image_size": 256}},
}
# facebook/hubert-large-ls960-ft, which the published checkpoints were trained with
_HUBERT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}

SIZES = tuple(_SIZES)


def random_pipeline(size: str = "tiny", seed: int = 0, full: bool = True) -> DAWNPipeline:
    """Build a pipeline whose weights are random: it runs like any other, and its videos show noise.

    Args:
        size: "tiny" (64 px, under a million parameters), "128" or "256" (the published sizes, with a HuBERT-large).
        seed: Seed of the weights.
        full: Whether to include what only training needs (motion estimator of the LFG, encoder of PBNet).

    Returns:
        The pipeline, in eval mode.

    Raises:
        ValueError: There is no such size.
    """
    if size not in _SIZES:
        raise ValueError(f"`size` is {size!r}, must be one of {', '.join(SIZES)}")
    sizes = {name: dict(_SIZES[size].get(name, {})) for name in ("unet", "lfg", "pbnet", "audio_encoder")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = DAWNPipeline(
            unet=A2VFlowDiffusionModel(**sizes["unet"]).eval(),
            lfg=LatentFlowGenerator(**sizes["lfg"], with_motion_estimator=full).eval(),
            audio_encoder=HubertModel(HubertConfig(**(sizes["audio_encoder"] or _HUBERT_LARGE))).eval(),
            feature_extractor=Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
            scheduler=DAWNDDIMScheduler(),
            pbnet=PoseBlinkNet(**sizes["pbnet"], with_encoder=full).eval(),
        )
    return pipe
