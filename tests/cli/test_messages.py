import io
import os
import signal
import sys
import time

import pytest

from diffusers_dawn.cli.command import STOP_SIGNALS, _stopped_by_signals
from diffusers_dawn.cli.messages import PatientStream


def test_what_nobody_reads_any_more_is_swallowed():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        stream = PatientStream(pipe)
        for _ in range(3):
            print("x" * 10_000, file=stream, flush=True)
        assert stream.fileno() == writing


def test_names_that_are_no_text_are_printed_escaped():
    bytes_written = io.BytesIO()
    stream = PatientStream(io.TextIOWrapper(bytes_written, "utf-8"))
    print(os.fsdecode(b"a\xffb"), file=stream, flush=True)
    assert bytes_written.getvalue() == b"a\\udcffb\n"


@pytest.mark.parametrize("name", STOP_SIGNALS)
def test_the_first_signal_stops_and_a_second_does_not_cut_the_clearing_away_short(name):
    number = getattr(signal, name)
    before, cleared = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), _stopped_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)
            cleared.append(True)
    assert cleared and signal.getsignal(number) == before


def test_signals_that_come_together_stop_once_without_a_complaint(monkeypatch):
    complaints, numbers = [], [getattr(signal, name) for name in STOP_SIGNALS]
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(KeyboardInterrupt), _stopped_by_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        try:
            for number in numbers:
                os.kill(os.getpid(), number)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        time.sleep(1)
    assert complaints == []


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stopped_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
