"""Files that were read wrongly once, with their right result."""

import numpy as np
import pytest

from diffusers_dawn.media.pictures import read_image
from diffusers_dawn.media.recordings import read_waveform
from diffusers_dawn.media.videos import count_video_frames, read_video
from shared_cases import CASES, needs_cases

pytestmark = needs_cases


@pytest.mark.parametrize("name", ["gap.mp4", "gap.webm"])
def test_sound_behind_a_gap_keeps_its_time(name):
    whole = read_waveform(CASES / "audio_gap" / "whole.wav").samples
    with pytest.warns(UserWarning, match="`audio` has 1 gap, filled with 1.02 s of silence"):
        samples = read_waveform(CASES / "audio_gap" / name).samples
    assert len(samples) == pytest.approx(len(whole), abs=48)
    behind = slice(int(2.1 * 48_000), int(3.9 * 48_000))
    lags = range(-48, 49)
    alike = [np.corrcoef(np.roll(samples, lag)[behind], whole[behind])[0, 1] for lag in lags]
    # Matroska rounds to a millisecond; AAC and Opus change the wave a little
    assert max(alike) > 0.9
    assert not samples[int(1.1 * 48_000) : int(2 * 48_000)].any()


@pytest.mark.parametrize(("name", "duration_s"), [("two_joined.mp3", 4.14), ("damaged.m4a", 4.0)])
def test_a_bad_packet_costs_itself_only(name, duration_s):
    with pytest.warns(UserWarning, match="`audio` has . damaged place.*; silence takes their place"):
        waveform = read_waveform(CASES / "stitched_mp3" / name)
    assert waveform.duration_s == pytest.approx(duration_s, abs=0.05)


def test_the_default_track_is_heard_and_said():
    path = CASES / "default_track" / "two_tracks.mp4"
    with pytest.warns(UserWarning, match="2 sound tracks; number 1 is used, its default one; `track` takes"):
        default = read_waveform(path)
    assert default.sample_rate_hz == read_waveform(path, track=1).sample_rate_hz == 16_000
    assert np.array_equal(default.samples, read_waveform(path, track=1).samples)
    other = read_waveform(path, track=0)
    spectrum = np.abs(np.fft.rfft(other.samples))
    assert np.argmax(spectrum) / other.duration_s == pytest.approx(330, abs=2)


def test_a_voice_in_the_right_channel_can_be_chosen():
    path = CASES / "no_channel_choice" / "left_silent.wav"
    with pytest.warns(UserWarning, match="silent in its first channel.*`loudest` or `mix` as its channel takes"):
        read_waveform(path)
    peaks = [np.abs(read_waveform(path, channel=channel).samples).max() for channel in (1, "loudest", "mix")]
    assert peaks[0] == peaks[1] == pytest.approx(2 * peaks[2]) and peaks[0] > 0.4


def test_a_still_before_the_film_is_passed_over():
    path = CASES / "cover_first_track" / "cover_first.mkv"
    assert read_video(path, 25)[0].shape == (30, 256, 256, 3) and count_video_frames(path, 25) == 30


def test_a_mirrored_video_is_mirrored_only():
    right = read_image(CASES / "mirror_matrix" / "right.png")
    assert np.array_equal(read_video(CASES / "mirror_matrix" / "mirrored.mp4", 25)[0][0], right)


def test_pixels_that_are_not_square_are_widened():
    assert read_video(CASES / "pixel_aspect" / "sar_4_3.mp4", 25)[0].shape == (30, 256, 256, 3)


@pytest.mark.parametrize(("name", "tolerance"), [("t709.mp4", 4), ("untagged709.mp4", 4), ("hlg.mp4", 6)])
@pytest.mark.filterwarnings("ignore:.*high dynamic range")
def test_colours_are_those_that_were_filmed(name, tolerance):
    picture = read_video(CASES / "hdr_and_untagged_hd" / name, 25, max_frames=2)[0][1]
    filmed = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (224, 172, 140)]
    np.testing.assert_allclose(picture[360, 160::320], filmed, atol=tolerance)


def test_high_dynamic_range_is_said():
    with pytest.warns(UserWarning, match="`video` has a high dynamic range"):
        read_video(CASES / "hdr_and_untagged_hd" / "hlg.mp4", 25, max_frames=1)


def test_colours_of_a_wide_profile_become_those_of_srgb():
    right = read_image(CASES / "icc_profile" / "right_srgb.png").astype(int)
    # one step of rounding, by the version of LittleCMS
    assert np.abs(read_image(CASES / "icc_profile" / "wide_gamut.png") - right).max() <= 1


def test_an_empty_file_is_said_to_be_empty():
    with pytest.raises(ValueError, match="`audio` is empty: .*empty.wav has 0 bytes"):
        read_waveform(CASES / "small_messages" / "empty.wav")
