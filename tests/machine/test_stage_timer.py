import time

from diffusers_dawn.machine.stage_timer import timed


def test_times_of_one_stage_add_up_in_the_order_of_first_use():
    seconds = {}
    for name in ("draw", "write", "draw"):
        with timed(seconds, name):
            time.sleep(0.02)
    assert list(seconds) == ["draw", "write"]
    assert seconds["draw"] > seconds["write"] >= 0.02
