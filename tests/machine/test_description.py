import torch

from diffusers_dawn.machine.description import describe_machine


def test_machine_is_one_line_with_threads_and_versions():
    line = describe_machine()
    assert "\n" not in line and f"{torch.get_num_threads()} threads" in line
    assert f"torch {torch.__version__}" in line and "MALLOC_MMAP_MAX_ " in line
