"""Calls that wait for each other."""

import copy
import pickle
import threading

import pytest

from diffusers_dawn.pipeline.call_lock import CallLock, one_at_a_time


class Counter:
    """Counts the calls that are inside at once."""

    def __init__(self) -> None:
        self.call_lock, self.inside, self.most = CallLock(), 0, 0

    @one_at_a_time
    def call(self, pause: threading.Event, depth: int = 0) -> int:
        """Wait inside; `depth` more calls are made from there."""
        self.inside += 1
        self.most = max(self.most, self.inside - depth)
        pause.wait(0.02)
        result = self.call(pause, depth - 1) if depth else 1
        self.inside -= 1
        return result


def test_threads_wait_for_each_other():
    counter, pause = Counter(), threading.Event()
    threads = [threading.Thread(target=counter.call, args=(pause,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.most == 1


def test_a_call_may_call_again():
    assert Counter().call(threading.Event(), depth=2) == 1


def test_the_lock_is_free_after_an_error():
    counter = Counter()
    with pytest.raises(AttributeError):
        counter.call(None)
    counter.inside = 0
    thread = threading.Thread(target=counter.call, args=(threading.Event(),), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda counter: pickle.loads(pickle.dumps(counter))])
def test_copies_have_a_free_lock_of_their_own(copied):
    counter = Counter()
    with counter.call_lock:
        other = copied(counter)
        if copied is copy.copy:  # which shares what the original holds
            assert other.call_lock is counter.call_lock
            return
        thread = threading.Thread(target=other.call, args=(threading.Event(),), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
