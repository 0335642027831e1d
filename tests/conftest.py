import gc
import os
from collections import Counter

# what is imported stays for good: it is not searched for garbage, neither now nor while tests run
gc.disable()

import pytest
import torch
from hypothesis import settings

from diffusers_dawn import DAWNPipeline
from diffusers_dawn.conversion.random_pipeline import random_pipeline
from diffusers_dawn.face.detector import MediaPipeFaceDetector
from diffusers_dawn.sampling.scheduler_choice import make_scheduler

# an example may take long on a busy machine
settings.register_profile("suite", max_examples=30, deadline=None)
settings.load_profile("suite")


def pytest_configure(config):
    # as `pytest_collection_modifyitems` sorts them, not by their numbers of tests
    config.option.loadscopereorder = False
    # tests that run side by side (`-n`) share the cores, as do the processes that they start
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if workers > 1:
        threads = max(torch.get_num_threads() // workers, 1)
        torch.set_num_threads(threads)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_collection_modifyitems(items):
    # where several processes share the files, those with slow tests come first: else one is left alone with them
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        counts = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -counts[item.path]))


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def detector():
    try:
        made = MediaPipeFaceDetector()
    except ImportError as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture(scope="module")
def tiny_pipe() -> DAWNPipeline:
    pipe = random_pipeline("tiny")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(tiny_pipe) -> DAWNPipeline:
    """The module's tiny pipeline, with the scheduler it came with."""
    tiny_pipe.scheduler = make_scheduler("dawn", tiny_pipe.scheduler.config)
    return tiny_pipe
