import numpy as np
import pytest

from training.data.clip_members import SAMPLES_PER_FRAME
from training.synthetic.espeak import Espeak
from training.synthetic.phonemes import PHONEME_CLASSES, frame_labels
from training.synthetic.sentences import split_of
from training.synthetic.speakers import Speaker, draw_speaker
from training.synthetic.spoken_clip import speak_clip

pytest.importorskip("espeakng_loader")

SPEAKER = Speaker("en-us", "f1", 170, 50, 50)
VOWELS = ("aa", "ae", "ah", "ao", "eh", "ih", "iy", "uh", "uw", "er")


@pytest.fixture(scope="module")
def espeak():
    return Espeak()


@pytest.fixture(scope="module")
def clips(espeak):
    return [
        speak_clip(espeak, draw_speaker(seed, is_feminine=seed % 2 == 0), 100, seed, ("train", "test")[seed % 2])
        for seed in range(16)
    ]


def test_clip_lasts_exactly_its_frames(espeak, clips):
    assert all(clip.samples.shape == (100 * SAMPLES_PER_FRAME,) for clip in clips)
    assert all(clip.samples.dtype == np.float32 and np.abs(clip.samples).max() <= 0.95 for clip in clips)
    for num_frames in (1, 7, 30):
        assert speak_clip(espeak, SPEAKER, num_frames, 0).samples.shape == (num_frames * SAMPLES_PER_FRAME,)


def test_segments_cover_the_clip_in_order_without_gaps(clips):
    for clip in clips:
        assert clip.segments[0].start_s == 0 and clip.segments[-1].end_s == 4
        for segment, following in zip(clip.segments, clip.segments[1:], strict=False):
            assert segment.start_s < segment.end_s
            assert segment.end_s == pytest.approx(following.start_s, abs=1e-9)


def test_labels_sit_on_the_sound(clips):
    levels_db = {}
    for clip in clips:
        for index, label in enumerate(frame_labels(clip.segments, 199)):
            heard = clip.samples[320 * index : 320 * index + 400].astype(np.float64)
            levels_db.setdefault(PHONEME_CLASSES[label].name, []).append(10 * np.log10(np.mean(heard**2) + 1e-9))
    medians_db = {name: np.median(values) for name, values in levels_db.items()}
    # in every clip's own loudness: vowels around -20 dB, silence far below, consonants that only hiss in between
    assert medians_db["sil"] < -50
    assert min(medians_db[name] for name in VOWELS) > -32
    for hiss in ("f", "th", "p", "k"):
        assert medians_db["sil"] < medians_db[hiss] < min(medians_db["aa"], medians_db["eh"], medians_db["ao"]) - 6


def test_labels_shifted_in_time_sit_worse(clips):
    # of all shifts, none puts more sound into the vowels and less into the silence
    def contrast(shift):
        loud, quiet = [], []
        for clip in clips:
            labels = np.roll(frame_labels(clip.segments, 199), shift)
            levels = np.lib.stride_tricks.sliding_window_view(clip.samples, 400)[::320].astype(np.float64)
            level_db = 10 * np.log10(np.mean(levels**2, axis=1) + 1e-9)
            names = np.array([PHONEME_CLASSES[label].name for label in labels])
            loud.append(level_db[np.isin(names, VOWELS)].mean())
            quiet.append(level_db[~np.isin(names, VOWELS)].mean())
        return np.mean(loud) - np.mean(quiet)

    contrasts = [contrast(shift) for shift in range(-4, 5)]
    assert int(np.argmax(contrasts)) == 4


def test_last_sentence_is_cut_between_words_and_fades_out(clips):
    cut = [clip for clip in clips if clip.sentences[-1].is_cut]
    assert len(cut) > 4
    for clip in cut:
        last = clip.sentences[-1]
        end = round(last.end_s * 16_000)
        assert last.end_s in [segment.start_s for segment in clip.segments] or last.end_s == 4
        assert np.abs(clip.samples[end:]).max(initial=0) == 0
        # no click: what is left within a millisecond of the end is a tenth of the fade's start
        assert np.abs(clip.samples[end - 16 : end]).max() < 0.1 * np.abs(clip.samples).max()


def test_clips_are_filled_with_sentences_of_their_split(clips):
    for seed, clip in enumerate(clips):
        assert clip.sentences
        assert {split_of(sentence.text) for sentence in clip.sentences} == {("train", "test")[seed % 2]}
        spoken_s = sum(sentence.end_s - sentence.start_s for sentence in clip.sentences)
        assert spoken_s > 2


def test_same_seed_gives_the_same_clip_and_another_seed_another(espeak):
    first, again, other = (speak_clip(espeak, SPEAKER, 50, seed) for seed in (3, 3, 4))
    assert first.samples.tobytes() == again.samples.tobytes() and first.segments == again.segments
    assert first.samples.tobytes() != other.samples.tobytes()


def test_no_frames_are_refused(espeak):
    with pytest.raises(ValueError, match="`num_frames` is 0"):
        speak_clip(espeak, SPEAKER, 0, 0)
