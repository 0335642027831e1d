import os
import signal
import sys
import threading
import time

import pytest

from diffusers_dawn.machine.stopping import STOP_SIGNALS, StoppedBySignal, stopped_by_signals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_stops_and_a_second_does_not_cut_the_clearing_away_short(number):
    before, cleared = signal.getsignal(number), []
    with pytest.raises(StoppedBySignal) as stop, stopped_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)
            cleared.append(True)
    assert stop.value.signal_number == number
    assert cleared and signal.getsignal(number) == before


def test_signals_that_come_together_stop_once_without_a_complaint(monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            for number in STOP_SIGNALS:
                os.kill(os.getpid(), number)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        time.sleep(1)
    assert complaints == []


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_threads_signals_are_left_alone():
    entered = []

    def work():
        with stopped_by_signals():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGTERM)]
