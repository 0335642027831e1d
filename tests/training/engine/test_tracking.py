import io

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.engine.tracking import Meter, log_video


def test_clip_is_logged_to_tensorboard_as_a_moving_picture(tmp_path):
    project = ProjectConfiguration(project_dir=str(tmp_path), logging_dir=str(tmp_path / "logs"))
    accelerator = Accelerator(log_with="tensorboard", project_config=project)
    accelerator.init_trackers("dawn")
    frames = np.random.default_rng(0).integers(0, 256, (10, 16, 24, 3), dtype=np.uint8)
    log_video(accelerator, "validation/clip", frames, tmp_path / "clip.mp4", 7)
    accelerator.end_training()
    events = EventAccumulator(str(tmp_path / "logs" / "dawn"))
    events.Reload()
    (event,) = events.Images("validation/clip")
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert (event.step, picture.format, picture.size, picture.n_frames) == (7, "GIF", (24, 16), 5)


def test_meter_gives_means_since_the_last_time():
    meter = Meter(Accelerator())
    for value in (1.0, 3.0):
        meter.add("lfg", {"loss": torch.tensor(value)})
    assert meter.collect()["lfg/loss"] == 2.0
    meter.add("lfg", {"loss": torch.tensor(5.0)})
    with meter.loading():
        pass
    values = meter.collect()
    assert values["lfg/loss"] == 5.0 and 0 < values["loading_share"] < 1
