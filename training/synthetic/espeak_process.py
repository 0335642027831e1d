"""Say one sentence with espeak-ng's C library, in a process of its own (standard library only).

espeak-ng keeps state between utterances (the phase of the pitch's flutter, generators of noise) and does not reset it
when it is initialised again. One process per utterance makes the sound a function of the request alone.

Reads a JSON request from standard input; writes one line of JSON, then the samples (16 bit, machine byte order).
"""

import ctypes
import json
import sys

# names and values of espeak-ng's speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS = 0x0001
INITIALIZE_DONT_EXIT = 0x8000
CHARS_UTF8 = 1
POSITION_CHARACTER = 1
EVENT_LIST_TERMINATED, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_PITCH_RANGE = 1, 3, 4


class EventId(ctypes.Union):
    """What an event is about: the mnemonic of a phoneme event lies in `string`."""

    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """One event of the synthesis; `sample` counts from the start of the utterance."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", EventId),
    ]


SynthesisCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def synthesize(request: dict) -> tuple[dict, bytes]:
    """Say a sentence.

    Args:
        request: "library" and "data" (paths), "voice" (identifier), "rate_wpm", "pitch", "pitch_range", "text".

    Returns:
        "sample_rate_hz", "phonemes" (mnemonic and first sample of each) and "words" (first sample of each); and the
        samples.

    Raises:
        RuntimeError: The library cannot be initialised or refuses the voice or the text.
    """
    library = ctypes.CDLL(request["library"])
    flags = INITIALIZE_PHONEME_EVENTS | INITIALIZE_DONT_EXIT
    sample_rate_hz = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, request["data"].encode(), flags)
    if sample_rate_hz <= 0:
        raise RuntimeError(f"espeak-ng finds no usable data in {request['data']}")
    # its breath noise would begin with the clock
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {request['voice']!r}")
    for parameter, name in (
        (PARAMETER_RATE, "rate_wpm"),
        (PARAMETER_PITCH, "pitch"),
        (PARAMETER_PITCH_RANGE, "pitch_range"),
    ):
        library.espeak_SetParameter(parameter, request[name], 0)

    samples, phonemes, words = bytearray(), [], []

    def receive(wave: "ctypes._Pointer", num_samples: int, events: "ctypes._Pointer") -> int:
        if wave and num_samples > 0:
            samples.extend(ctypes.string_at(wave, 2 * num_samples))
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == EVENT_PHONEME:
                phonemes.append((event.id.string.decode("utf-8", "replace"), event.sample))
            elif event.type == EVENT_WORD:
                words.append(event.sample)
            index += 1
        return 0

    callback = SynthesisCallback(receive)
    library.espeak_SetSynthCallback(callback)
    text = request["text"].encode() + b"\0"
    status = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None)
    if status != 0:
        raise RuntimeError(f"espeak-ng ended with status {status}")
    library.espeak_Synchronize()
    return {"sample_rate_hz": sample_rate_hz, "phonemes": phonemes, "words": words}, bytes(samples)


def main() -> int:
    """Answer one request.

    Returns:
        Exit status: 0 done, 1 refused (the reason is on standard error).
    """
    try:
        answer, samples = synthesize(json.load(sys.stdin))
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
