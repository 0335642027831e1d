"""A user's own function on frames: found by its name, called for every frame in order, and checked."""

import os
import sys

import numpy as np
import pytest

from diffusers_dawn.media.enhancers import enhance_each, read_enhancer

PIECES = [np.full((count, 4, 4, 3), 40 * count, np.uint8) for count in (3, 3, 1)]


def twice(frames):
    return frames.repeat(2, axis=1).repeat(2, axis=2)


def test_every_frame_is_enhanced_in_order():
    seen = []

    def enhancer(frames):
        seen.append((frames.dtype, frames.shape, int(frames.max())))
        return twice(frames)

    enhanced = enhance_each(iter(PIECES), enhancer)
    assert seen == []  # none before it is asked for
    enhanced = list(enhanced)
    assert seen == [(np.uint8, (3, 4, 4, 3), 120), (np.uint8, (3, 4, 4, 3), 120), (np.uint8, (1, 4, 4, 3), 40)]
    assert all(np.array_equal(*pair) for pair in zip(enhanced, map(twice, PIECES), strict=True))


def test_transparent_frames_are_seen_over_white_and_keep_their_opacity():
    frames = np.zeros((2, 4, 4, 4), np.uint8)
    frames[:, :2] = (200, 100, 0, 255)
    frames[:, 3] = (200, 100, 0, 51)
    seen = []

    def enhancer(shown):
        seen.append(shown)
        return shown

    (enhanced,) = enhance_each([frames], enhancer)
    assert (seen[0][:, :2] == (200, 100, 0)).all() and (seen[0][:, 2] == 255).all()
    assert np.array_equal(enhanced[..., 3], frames[..., 3])
    assert np.abs(enhanced[:, [0, 1, 3], :, :3].astype(int) - (200, 100, 0)).max() <= 3
    (larger,) = enhance_each([frames], twice)
    assert larger.shape == (2, 8, 8, 4) and (larger[:, :2, :, 3] == 255).all()


@pytest.mark.parametrize(
    ("enhancer", "found"),
    [
        (lambda frames: frames[:2], r"uint8 \(2, 4, 4, 3\)"),
        (lambda frames: frames / 255, r"float64 \(3, 4, 4, 3\)"),
        (lambda frames: frames[:, :3], r"uint8 \(3, 3, 4, 3\)"),
        (lambda frames: frames[..., 0], r"uint8 \(3, 4, 4\)"),
        (lambda frames: frames[:, :0, :0], r"uint8 \(3, 0, 0, 3\)"),
        (lambda frames: list(frames), "a list"),
        (lambda frames: None, "a NoneType"),
    ],
)
def test_what_are_no_frames_is_refused(enhancer, found):
    with pytest.raises(ValueError, match=rf"`enhance` returned {found}, must return a uint8 array \(3, S, S, 3\)"):
        next(enhance_each(PIECES, enhancer))


def test_frames_of_another_size_than_before_are_refused():
    sizes = iter([twice, lambda frames: frames])
    with pytest.raises(ValueError, match=r"returned uint8 \(3, 4, 4, 3\), must return a uint8 array \(3, 8, 8, 3\)"):
        list(enhance_each(PIECES, lambda frames: next(sizes)(frames)))


def test_a_function_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_restorer.py").write_text("class Model:\n    restore = abs\nwidth = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert read_enhancer("own_restorer:Model") is sys.modules["own_restorer"].Model
    with pytest.raises(ValueError, match="`enhance` is 'own_restorer:width', but own_restorer has no function width"):
        read_enhancer("own_restorer:width")
    with pytest.raises(ValueError, match="but own_restorer has no function nothing"):
        read_enhancer("own_restorer:nothing")
    monkeypatch.delitem(sys.modules, "own_restorer")


@pytest.mark.parametrize("given", ["", "gfpgan", "a.b", ":f", "a:", "a/b.py:f", "a:f()", "a:b:c", ".a:f"])
def test_words_that_name_no_function_are_refused(given):
    with pytest.raises(ValueError, match="must be detail, or your own function as package.module:function"):
        read_enhancer(given)


def test_a_module_that_is_not_there_is_refused():
    message = "`enhance` is 'no_such_module:f', which cannot be imported .*PYTHONPATH says where else Python looks"
    with pytest.raises(ValueError, match=message):
        read_enhancer("no_such_module:f")


def test_a_function_that_fails_is_named_with_its_error():
    with pytest.raises(ValueError, match="^`--enhance` fails: TypeError: .*ndarray"):
        next(enhance_each(PIECES, os.system, "--enhance"))


@pytest.mark.parametrize("code", ["1 / 0", "import sys; sys.exit(3)", "def f(:"])
def test_a_module_that_cannot_be_run_is_refused(tmp_path, monkeypatch, code):
    (tmp_path / "broken_restorer.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match="^`enhance` is 'broken_restorer:f', whose import fails: (Zero|System|Syntax)"
    ):
        read_enhancer("broken_restorer:f")
