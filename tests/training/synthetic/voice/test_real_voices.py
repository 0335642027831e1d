import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusers_dawn.records import SAMPLE_RATE_HZ
from synthetic_media import tone, write_audio
from training.synthetic.phonemes import CLASS_INDEX, SILENCE_INDEX, ClassSegment, classes_at
from training.synthetic.voice.aligned_recording import AlignedRecording, write_aligned
from training.synthetic.voice.real_voices import RealVoices

BEEP = CLASS_INDEX["iy"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Recordings of four speakers that beep in every other quarter of a second, and their labels."""
    folder = tmp_path_factory.mktemp("voices")
    (folder / "labels").mkdir()
    for number, (speaker, num_beeps) in enumerate((("a", 1), ("a", 3), ("b", 8), ("c", 2), ("d", 2))):
        quiet, beep = np.zeros(SAMPLE_RATE_HZ // 4), tone(duration_s=0.25)
        samples = np.concatenate([part for _ in range(num_beeps) for part in (quiet, beep)] + [quiet])
        path = folder / f"{speaker}-{number}.wav"
        write_audio(path, samples[None].astype(np.float32), SAMPLE_RATE_HZ, "pcm_s16le")
        segments = tuple(
            ClassSegment(BEEP if place % 2 else SILENCE_INDEX, place / 4, (place + 1) / 4)
            for place in range(2 * num_beeps + 1)
        )
        write_aligned(folder / "labels" / f"{path.stem}.npz", AlignedRecording(path, speaker, "beep", segments))
    return folder / "labels"


@given(st.integers(0, 2**32), st.sampled_from([8_000, 32_000, 48_000]))
def test_labels_stay_on_their_sounds_at_every_speed_and_place(labels, seed, num_samples):
    clip = RealVoices([str(labels)], ["d"]).draw(np.random.default_rng(seed), num_samples)
    assert clip.samples.shape == (num_samples,) and clip.samples.dtype == np.float32
    times_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    loud = np.abs(clip.samples) > 0.02
    found = classes_at(clip.segments, times_s) if clip.segments else np.full(num_samples, SILENCE_INDEX)
    # a beep is above the threshold but where it crosses zero; silence never is, but next to a beep
    assert loud[found == BEEP].mean() > 0.9 if (found == BEEP).sum() > 800 else True
    assert loud[found == SILENCE_INDEX].mean() < 0.05 if (found == SILENCE_INDEX).sum() > 800 else True


def test_nobody_who_is_held_out_is_drawn(labels):
    voices = RealVoices([str(labels)], ["b", "d"])
    assert {one.speaker for one in voices.train} == {"a", "c"} and {one.speaker for one in voices.test} == {"b", "d"}


def test_same_seed_gives_the_same_clip(labels):
    voices = RealVoices([str(labels)], [])
    first, again, other = (voices.draw(np.random.default_rng(seed), 16_000).samples for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("folders", "held_out", "sentence"),
    [
        (["missing"], [], "`aligned_speech` names .*missing, must be folders"),
        (["."], ["nobody"], "`held_out_speakers` has 'nobody', must be speakers of"),
        (["."], ["a", "b", "c", "d"], "must leave at least one to train on"),
    ],
)
def test_folders_and_speakers_that_do_not_fit_are_refused(labels, folders, held_out, sentence):
    with pytest.raises(ValueError, match=sentence):
        RealVoices([str(labels / folder) for folder in folders], held_out)
