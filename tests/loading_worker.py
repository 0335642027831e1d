"""Load saved pipelines in a process of its own: `python loading_worker.py SCENARIO FOLDER MISSING,PACKAGES`.

Each scenario yields names and the frames of what it loaded, which go to FOLDER/SCENARIO.npz, or names and texts, which
go to FOLDER/SCENARIO.json.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

RATE_HZ = 16_000
NUM_FRAMES = 6
FACE = {
    "pose": [3.0, -2.0, 1.0, 5e-4, 60.0, 65.0],
    "blink": [0.3, 0.31],
    "box_px": (12.0, 50.0, 16.0, 58.0),
    "image_size": (64, 64),
}
NETWORKS = ("unet", "lfg", "pbnet")
TRACKS = {"pose": np.tile(FACE["pose"], (NUM_FRAMES, 1)), "blink": np.full((NUM_FRAMES, 2), 0.3)}


def picture():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def speech():
    return np.random.default_rng(0).normal(0, 0.1, NUM_FRAMES * RATE_HZ // 25).astype(np.float32)


def frames(pipe, **arguments):
    """Frames (F, 3, H, W) of a fixed portrait and recording."""
    import torch

    pipe.set_progress_bar_config(disable=True)
    defaults = {"image": picture(), "audio": speech(), "sampling_rate": RATE_HZ, "face": FACE}
    arguments = defaults | {"num_inference_steps": 2} | arguments
    generator = torch.Generator().manual_seed(0)
    return pipe(**arguments, output_type="pt", generator=generator).frames[0].numpy()


def encode_frames(pipe, path):
    """Write a video as the saved code's example does."""
    import torch
    from diffusers.utils import encode_video

    out = pipe(picture(), speech(), RATE_HZ, FACE, num_inference_steps=1)
    sound = torch.from_numpy(out.audio[0])
    encode_video(out.frames[0], out.fps, str(path), audio=sound, audio_sample_rate=out.sampling_rate[0])


def error(load, *arguments, **options):
    """What a user reads when this fails."""
    try:
        load(*arguments, **options)
    except Exception as raised:
        return f"{type(raised).__name__}: {raised}"
    return "no error"


def package_online(place):
    import torch
    from diffusers import DDIMScheduler
    from huggingface_hub import create_repo, upload_file

    from diffusers_dawn import DAWNPipeline

    pipe = DAWNPipeline.from_pretrained(place / "saved")
    yield "folder", frames(pipe)
    pipe.save_pretrained(str(place / "pushed"), push_to_hub=True, repo_id="me/saved")
    pipe.push_to_hub("me/pushed")
    pipe.push_to_hub("me/carded")
    pipe.push_to_hub("me/weights", layout="weights")
    for name in NETWORKS:
        getattr(pipe, name).push_to_hub(f"me/{name}-alone")
    create_repo("org/dawn-code")
    upload_file(path_or_fileobj=place / "saved" / "pipeline.py", path_in_repo="pipeline.py", repo_id="org/dawn-code")
    yield "weights by id", frames(DAWNPipeline.from_pretrained("me/weights"))
    half = DAWNPipeline.from_pretrained(place / "half", variant="fp16", dtype=torch.float32)
    yield "variant in a folder", frames(half)
    loaded = DAWNPipeline.from_pretrained("me/saved")
    yield "id", frames(loaded)
    yield "name", loaded.name_or_path
    yield "card", loaded.model_card
    yield "no card", str(DAWNPipeline.from_pretrained("me/half", variant="fp16").model_card)
    yield "other id", frames(DAWNPipeline.from_pretrained("me/pushed"))
    yield "variant by id", frames(DAWNPipeline.from_pretrained("me/half", variant="fp16", dtype=torch.float32))
    yield "no pbnet", frames(DAWNPipeline.from_pretrained(place / "no_pbnet"), **TRACKS)
    yield "another scheduler", frames(DAWNPipeline.from_pretrained(place / "ddim"))
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    yield "given parts", frames(DAWNPipeline.from_pretrained("me/saved", unet=pipe.unet, scheduler=scheduler))


def package_offline(place):
    from diffusers_dawn import DAWNPipeline

    loaded = DAWNPipeline.from_pretrained("me/saved")
    yield "id", frames(loaded)
    yield "card", loaded.model_card
    yield "no card", str(DAWNPipeline.from_pretrained("me/half", variant="fp16").model_card)
    yield "saved again without the package", frames(DAWNPipeline.from_pretrained(place / "saved_again"))


def alone_online(place):
    yield from _folders_alone(place)
    yield from _ids_alone(place)


def _folders_alone(place):
    import torch
    from diffusers import DDIMScheduler, DiffusionPipeline

    trusting = {"trust_remote_code": True}
    saved = place / "saved"
    yield "folder without trust", error(DiffusionPipeline.from_pretrained, saved)
    pipe = DiffusionPipeline.from_pretrained(saved, **trusting)
    yield "folder", frames(pipe)
    yield "default call", frames(pipe, num_inference_steps=None)
    yield "classes", " ".join(type(part).__module__ for part in (pipe, pipe.unet, pipe.scheduler))
    yield "pictures without a detector", error(frames, pipe, face=None)
    yield "files without a decoder", error(frames, pipe, audio="speech.wav", sampling_rate=None)
    yield "rates without a resampler", error(frames, pipe, sampling_rate=48_000)
    yield "folder as code", frames(DiffusionPipeline.from_pretrained(saved, custom_pipeline=str(saved), **trusting))
    code = str(saved / "pipeline.py")
    yield "file as code", frames(DiffusionPipeline.from_pretrained(saved, custom_pipeline=code, **trusting))
    half = DiffusionPipeline.from_pretrained(place / "half", variant="fp16", dtype=torch.float32, **trusting)
    yield "variant", frames(half)
    yield "no pbnet", frames(DiffusionPipeline.from_pretrained(place / "no_pbnet", **trusting), **TRACKS)
    yield "pbnet left out", frames(DiffusionPipeline.from_pretrained(saved, pbnet=None, **trusting), **TRACKS)
    yield "another scheduler", frames(DiffusionPipeline.from_pretrained(place / "ddim", **trusting))
    yield "from_pipe", frames(type(pipe).from_pipe(pipe))
    yield "its own class", frames(type(pipe).from_pretrained(saved, **trusting))
    pipe.save_pretrained(place / "saved_again")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(place / "ddim_again")
    half.to(torch.float16).save_pretrained(place / "half_again", variant="fp16", max_shard_size="100KB")
    parts = {name: part for name, part in pipe.components.items() if name in {"unet", "lfg", "pbnet"}}
    code = str(place / "dawn.py")
    community = DiffusionPipeline.from_pretrained(place / "no_own_parts", custom_pipeline=code, **parts, **trusting)
    yield "community file", frames(community)
    community.save_pretrained(place / "community_again")
    ignored = DiffusionPipeline.from_pretrained(saved, custom_pipeline=code, **trusting)
    yield "ignored file", type(ignored).__module__


def _ids_alone(place):
    import torch
    from diffusers import AutoModel, DiffusionPipeline
    from huggingface_hub import snapshot_download

    trusting = {"trust_remote_code": True}
    yield "id without trust", error(DiffusionPipeline.from_pretrained, "me/saved")
    pipe = DiffusionPipeline.from_pretrained("me/saved", **trusting)
    yield "id", frames(pipe)
    yield "id as code", frames(DiffusionPipeline.from_pretrained("me/saved", custom_pipeline="me/saved", **trusting))
    code = {"custom_pipeline": "org/dawn-code"}
    weights = DiffusionPipeline.from_pretrained("me/weights", **code, **trusting)
    yield "weights and code by id", frames(weights)
    yield "code by id", type(weights).__module__
    yield "weights without code", error(DiffusionPipeline.from_pretrained, "me/weights", **trusting)
    yield "other code without trust", error(DiffusionPipeline.from_pretrained, "me/weights", **code)
    yield "folder of weights", frames(DiffusionPipeline.from_pretrained(place / "weights", **code, **trusting))
    ignored = DiffusionPipeline.from_pretrained("me/saved", **code, **trusting)
    yield "ignored code", type(ignored).__module__
    weights.save_pretrained(place / "weights_again")
    for where, source in (("folders", str(place / "saved") + "/{}"), ("ids", "me/{}-alone")):
        networks = {name: AutoModel.from_pretrained(source.format(name), **trusting) for name in NETWORKS}
        yield f"networks alone, by {where}", frames(type(pipe)(**pipe.components | networks))
        yield f"networks without trust, by {where}", error(AutoModel.from_pretrained, source.format("lfg"))
    networks["lfg"].save_pretrained(place / "lfg_again")
    networks["lfg"].push_to_hub("me/lfg-again")
    half = DiffusionPipeline.from_pretrained("me/half", variant="fp16", dtype=torch.float32, **trusting)
    yield "variant by id", frames(half)
    yield "no pbnet by id", frames(DiffusionPipeline.from_pretrained("me/no_pbnet", **trusting), **TRACKS)
    yield "another scheduler by id", frames(DiffusionPipeline.from_pretrained("me/ddim", **trusting))
    mixed = DiffusionPipeline.from_pretrained(place / "saved", custom_pipeline="me/saved", **trusting)
    yield "folder with an id as code", frames(mixed)
    sys.path.insert(0, str(place))
    yield "imported file", frames(importlib.import_module("dawn").DAWNPipeline.from_pretrained("me/saved"))
    pipe.push_to_hub("me/again")
    yield "pushed again", frames(DiffusionPipeline.from_pretrained("me/again", **trusting))
    snapshot_download("me/saved")


def alone_offline(place):
    import torch
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download

    trusting = {"trust_remote_code": True}
    cached = snapshot_download("me/saved", local_files_only=True)
    pipe = DiffusionPipeline.from_pretrained(cached, **trusting)
    yield "cached", frames(pipe)
    yield "imported while loading", " ".join({"av", "librosa", "mediapipe"} & set(sys.modules))
    yield "paths", frames(pipe, image=place / "portrait.png", audio=str(place / "speech.wav"), sampling_rate=None)
    encode_frames(pipe, place / "talking.mp4")
    yield "picture without a face", error(frames, pipe, image=np.full((64, 64, 3), 90, np.uint8), face=None)
    yield "saved again", frames(DiffusionPipeline.from_pretrained(place / "saved_again", **trusting))
    yield "weights saved again", frames(DiffusionPipeline.from_pretrained(place / "weights_again", **trusting))
    half = DiffusionPipeline.from_pretrained(place / "half_again", variant="fp16", dtype=torch.float32, **trusting)
    yield "variant saved again", frames(half)
    yield "scheduler saved again", frames(DiffusionPipeline.from_pretrained(place / "ddim_again", **trusting))
    yield "community saved again", frames(DiffusionPipeline.from_pretrained(place / "community_again", **trusting))


def main(scenario, place, missing):
    # what None stands for cannot be imported, and counts as not installed
    sys.modules |= dict.fromkeys(missing.split(",")) if missing else {}
    found = dict(globals()[scenario](Path(place)))
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    np.savez(Path(place, f"{scenario}.npz"), **{name: found[name] for name in found.keys() - texts})
    Path(place, f"{scenario}.json").write_text(json.dumps(texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
