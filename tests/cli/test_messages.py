import io
import os
import threading
import warnings

from diffusers_dawn.cli import messages
from diffusers_dawn.cli.messages import MOST_LETTERS, PatientStream, describe_error, told_warnings


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


def test_an_error_is_one_line_of_bounded_length_whatever_was_given():
    assert describe_error(ValueError("`label` is\n5")) == "`label` is 5"
    assert describe_error(KeyError("x")) == "KeyError: 'x'"
    line = describe_error(ValueError(f"`label` is {10_000 * 'x'}, must be short"))
    assert line.startswith("`label` is xxx") and line.endswith("xxx, must be short") and len(line) < MOST_LETTERS + 10


def test_what_fails_by_a_limit_of_memory_names_the_limit(monkeypatch):
    library = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    assert describe_error(library) == str(library)
    monkeypatch.setattr(messages, "process_limit_bytes", lambda: [7_000_000, 90_000_000])
    hint = "; limits of this process (ulimit) leave 7 MB of memory, which may be too little"
    assert describe_error(library) == f"{library}{hint}"
    assert describe_error(MemoryError()) == f"MemoryError: {hint}"
    assert describe_error(ValueError("`seed` is x, must be a number")) == "`seed` is x, must be a number"


def test_warnings_are_told_to_the_thread_that_caused_them_alone():
    def warn(text):
        warnings.warn_explicit(text, UserWarning, "sources.py", 1, module="diffusers_dawn.media.sources")

    told = []
    with warnings.catch_warnings(record=True) as elsewhere:
        warnings.simplefilter("always")
        with told_warnings(told.append):
            for _ in range(2):  # each time, not once per line of code
                warn("mine")
            other = threading.Thread(target=warn, args=("theirs",))
            other.start()
            other.join()
        warn("later")
    assert told == ["mine", "mine"] and [str(said.message) for said in elsewhere] == ["theirs", "later"]
