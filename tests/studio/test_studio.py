"""The studio's jobs, without the page: the same video as by command, limits, cancelling, and nothing left behind."""

import re
import shlex
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from diffusers_dawn import Studio
from diffusers_dawn.cli.animate import describe_square
from diffusers_dawn.cli.command import main
from diffusers_dawn.cli.job_lines import options_of, tidy_fields
from diffusers_dawn.cli.options import COMMANDS, command_parser
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.motion.keyframe_rows import COLUMNS
from diffusers_dawn.motion.track_files import load_track
from diffusers_dawn.studio.found_face import SQUARE_COLOUR
from diffusers_dawn.studio.jobs import Cancelled
from diffusers_dawn.studio.page_words import LABELS
from diffusers_dawn.studio.progress import Progress
from diffusers_dawn.studio.remembered_pictures import RememberedPictures
from diffusers_dawn.studio.settings import Settings
from synthetic_media import tone, write_audio

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURE, SOUND = ((EXAMPLES / name).read_bytes() for name in ("portrait_1.png", "speech_1.wav"))


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# it says of itself that it is 20 000 px wide and high
HUGE_PICTURE = PICTURE[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)) + PICTURE[33:]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    """A tiny checkpoint, drawn portraits, a picture without a face, no picture at all, and recordings."""
    folder = tmp_path_factory.mktemp("studio")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    faces = [np.asarray(Image.open(EXAMPLES / f"portrait_{n}.png").convert("RGB")) for n in (1, 2)]
    Image.fromarray(faces[0]).save(folder / "a face.png")
    Image.fromarray(np.concatenate(faces, axis=1)).save(folder / "group.png")
    Image.fromarray(np.full((96, 96, 3), 120, np.uint8)).save(folder / "blank.png")
    (folder / "text.png").write_text("no picture")
    for name, duration_s in (("short.wav", 0.2), ("long.wav", 2.5)):
        write_audio(folder / name, tone(duration_s=duration_s)[None], 16_000, "pcm_s16le")
    return folder


@pytest.fixture(scope="module")
def opened(inputs):
    made = Studio(inputs / "tiny", device="cpu", max_seconds=2.6, max_size=128)
    yield made
    made.close()
    assert not made.folder.exists()


@pytest.fixture
def studio(opened):
    opened.sweep(kept_s=-1)
    return opened


def animate(studio, inputs, image="a face.png", audio="short.wav", session="", follow=lambda *_: None, **settings):
    settings = Settings(**{"preset": "fast"} | settings)
    return studio.animate(str(inputs / image), str(inputs / audio), settings, session, follow)


def test_a_video_is_the_one_of_the_command_that_is_shown(studio, inputs, tmp_path, monkeypatch):
    given = {"seed": 7, "head_motion": 0.5, "motion": "at 0 s yaw 15"}
    given |= {"speech_guidance": 1.5, "label": "it's made", "size": studio.pipe.default_size, "enhance": True}
    given |= {"square_size": 90}
    monkeypatch.setattr(studio, "max_size", None)
    made = animate(studio, inputs, **given)
    words = shlex.split(made.command)
    assert words[0] == "dawn" and {"--label=it's made", "--image=a face.png", "--preset=fast"} <= set(words)
    monkeypatch.chdir(inputs)
    assert main([*words[1:], "-o", str(tmp_path / "same.mp4")]) == 0
    assert made.video.read_bytes() == (tmp_path / "same.mp4").read_bytes()
    # the line for `dawn batch` says the same
    options = options_of(tidy_fields(made.fields), Path(), studio.model)
    said = vars(command_parser(dict.fromkeys(COMMANDS)).parse_args(words[1:]))
    assert said == vars(options) | {"checkpoint": "tiny"}  # where it lies is not said
    assert "5 frames at" in made.report and str(studio.folder) not in made.report


def test_a_preview_is_the_beginning_of_it(studio, inputs):
    settings = Settings(preset="quality")
    image, audio = str(inputs / "a face.png"), str(inputs / "long.wav")
    made = studio.animate(image, audio, settings, preview=True)
    assert len(read_video(made.video)[0]) == 50
    assert "--preset=quality" in made.command


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"image": "blank.png"}, "no face found in `image`"),
        ({"image": "text.png"}, "`image`"),
        ({"audio": "text.png"}, "`audio`"),
        ({"motion": "fly away"}, "`--motion`: 'fly away'"),
        ({"motion": "head from film.mp4"}, "`--motion` names the file film.mp4, must be a text without files here"),
        ({"motion": "transcript secret.txt; nod on word 1"}, "`--motion` names the file secret.txt"),
        ({"motion": "/etc/passwd.json"}, "`--motion`"),
        ({"seed": -1}, "`--seed` is -1, must be from 0"),
        ({"size": 256}, "`--size` is 256, must be 128 at most here"),
        ({"face_index": 3}, "`face_index` is 3, must be from 0"),
        ({"head_motion": 3.0}, "`--head-motion` is 3"),
    ],
)
def test_what_cannot_be_rendered_is_said_and_leaves_nothing(studio, inputs, given, sentence):
    with pytest.raises(ValueError, match="^" + sentence.replace("(", "\\(")):
        animate(studio, inputs, **given)
    assert list(studio.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("text.png", b"no picture", "cannot be read as a picture"),
        ("sound.png", SOUND, "cannot be read as a picture"),
        ("half.png", PICTURE[: len(PICTURE) // 2], "truncated"),
        ("huge.png", HUGE_PICTURE, "megapixels"),
        ("empty.png", b"", "has 0 bytes"),
        ("text.wav", b"no sound", "cannot be decoded"),
        ("picture.wav", PICTURE, "no audio track"),
        ("head.wav", SOUND[:30], "cannot be decoded"),
        ("empty.wav", b"", "has 0 bytes"),
    ],
)
def test_an_upload_that_cannot_be_read_is_named_and_removed(studio, inputs, name, content, sentence):
    kind = "image" if name.endswith("png") else "audio"
    for ask in (
        lambda given: (
            studio.find_face(given["image"], Settings())
            if kind == "image"
            else studio.forecast(given["audio"], Settings())
        ),
        lambda given: studio.animate(given["image"], given["audio"], Settings()),
    ):
        upload = studio.folder / "upload" / name
        upload.parent.mkdir(exist_ok=True)
        upload.write_bytes(content)
        given = {"image": str(inputs / "a face.png"), "audio": str(inputs / "short.wav")} | {kind: str(upload)}
        with pytest.raises(ValueError, match=sentence) as raised:
            ask(given)
        said = studio.describe(raised.value)
        assert name in said and str(studio.folder) not in said
        assert [path for path in studio.folder.rglob("*") if path.is_file()] == []
    # what lies elsewhere is nobody's upload
    (inputs / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        ask(given | {kind: str(inputs / name)})
    assert (inputs / name).exists()


def test_what_can_be_read_stays_when_it_is_refused(studio, inputs):
    upload = studio.folder / "upload" / "blank.png"
    upload.parent.mkdir(exist_ok=True)
    upload.write_bytes((inputs / "blank.png").read_bytes())
    with pytest.raises(ValueError, match="no face found"):
        studio.find_face(str(upload), Settings())
    assert upload.exists()


def test_what_is_missing_or_too_long_is_said(studio, inputs, monkeypatch):
    with pytest.raises(ValueError, match="`image` is missing, must be a picture with a face"):
        studio.animate(None, str(inputs / "short.wav"), Settings())
    monkeypatch.setattr(studio, "max_seconds", 1)
    with pytest.raises(ValueError, match="`audio` lasts 2.50 s, must last 1 s at most here"):
        animate(studio, inputs, audio="long.wav")
    assert list(studio.folder.iterdir()) == []


@pytest.mark.parametrize("stage", ["denoising", "frames"])
def test_cancelling_stops_within_a_step_or_frame_and_leaves_nothing(studio, inputs, stage):
    seen = []

    def follow(at, done, total):
        seen.append((at, done, total))
        if at == stage:
            assert not studio.cancel("somebody else") and studio.cancel("me")

    with pytest.raises(Cancelled):
        animate(studio, inputs, session="me", follow=follow, preset="quality")
    steps = studio.pipe.plan(5, preset="quality").request.num_inference_steps
    at_once = [("denoising", 0, steps)]
    assert seen == (at_once if stage == "denoising" else seen[: steps + 1] + [("frames", 1, 5)])
    assert list(studio.folder.iterdir()) == [] and not studio.cancel("me")


def test_jobs_at_once_each_get_their_own_video(studio, inputs):
    alone = animate(studio, inputs, seed=1)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda seed: animate(studio, inputs, seed=seed), (1, 2)))
    contents = [made.video.read_bytes() for made in (alone, *both)]
    assert contents[0] == contents[1] != contents[2]
    assert len({made.video.parent for made in (alone, *both)}) == 3


def test_old_files_are_removed_but_not_those_of_running_jobs(studio, inputs):
    old = animate(studio, inputs)

    def follow(stage, done, total):
        studio.sweep(kept_s=-1)
        assert not old.video.exists()

    assert animate(studio, inputs, follow=follow).video.exists()


def test_length_and_memory_are_known_before(studio, inputs, monkeypatch):
    audio = str(inputs / "long.wav")
    assert studio.forecast(None, Settings()) == ""
    assert studio.forecast(audio, Settings()).startswith("2.50 s of speech, 62 frames of ")
    with pytest.raises(ValueError, match="`--size` is 129, must be 128 at most here"):
        studio.forecast(audio, Settings(size=129))
    monkeypatch.setattr(type(studio.pipe), "available_memory", lambda self: 1)
    with pytest.raises(ValueError, match="memory"):
        studio.forecast(audio, Settings())


def test_the_square_of_the_chosen_face_is_shown(studio, inputs):
    first, second = (studio.find_face(str(inputs / "group.png"), Settings(face_index=number)) for number in (0, 1))
    assert (first.num_faces, second.num_faces) == (2, 2)
    assert second.text.startswith("2 faces found, number 1 is chosen; the square of")
    left = [np.argwhere((np.asarray(face.picture) == SQUARE_COLOUR).all(-1))[:, 1].min() for face in (first, second)]
    portraits = [studio.pipe.prepare_portrait(str(inputs / "group.png"), face_index=number) for number in (0, 1)]
    width = Image.open(inputs / "group.png").width
    zoom = first.picture.width / width
    assert left == pytest.approx([max(portrait.crop.left, 0) * zoom for portrait in portraits], abs=2)
    with pytest.raises(ValueError, match="`face_index` is 2"):
        studio.find_face(str(inputs / "group.png"), Settings(face_index=2))


def test_a_picture_is_looked_at_once(inputs, studio, detector, monkeypatch):
    looked = []

    def counting(picture):
        looked.append(picture.shape)
        return detector(picture)

    monkeypatch.setattr(studio.pipe, "face_detector", RememberedPictures(lambda: counting))
    studio.find_face(str(inputs / "a face.png"), Settings())
    studio.find_face(str(inputs / "a face.png"), Settings(square_down=5))
    studio.show_motion(str(inputs / "a face.png"), str(inputs / "short.wav"), Settings())
    animate(studio, inputs, square_down=5)
    assert len(looked) == 1


def test_the_square_is_moved_and_scaled_as_set_and_shown(studio, inputs):
    picture = str(inputs / "group.png")
    found = studio.pipe.prepare_portrait(picture).crop
    settings = {"square_right": 10, "square_down": -20, "square_size": 80}
    moved = Settings(**settings).moved(found)
    assert moved.side == round(0.8 * found.side)
    assert moved.left + moved.side / 2 == pytest.approx(found.left + 0.6 * found.side, abs=1)
    assert moved.top + moved.side / 2 == pytest.approx(found.top + 0.3 * found.side, abs=1)
    assert Settings(square_right=0, square_down=0, square_size=100).moved(found) is None
    assert describe_square(moved) in studio.find_face(picture, Settings(**settings)).text
    made = animate(studio, inputs, "group.png", **settings)
    assert f"--crop={moved.left},{moved.top},{moved.side}" in shlex.split(made.command)
    with pytest.raises(ValueError, match="`crop` is .* must be a square of at most .* that holds the middle"):
        studio.find_face(picture, Settings(square_right=90))


def test_enlarged_videos_keep_within_the_limit_of_size(studio, inputs, monkeypatch):
    monkeypatch.setattr(studio, "max_size", 2 * studio.pipe.default_size - 1)
    with pytest.raises(ValueError, match=r"^`--enhance` draws \d+ px here, must be \d+ at most"):
        animate(studio, inputs, enhance=True)
    assert list(studio.folder.iterdir()) == []


def test_a_preview_moves_as_the_whole_video_begins(studio, inputs):
    said = {"motion": "at 2.4 s yaw 20; take 2", "head_motion": 0.5, "seed": 3}
    files = str(inputs / "a face.png"), str(inputs / "long.wav")
    preview, whole = (
        load_track(studio.animate(*files, Settings(preset="fast", **said), preview=preview).motion)
        for preview in (True, False)
    )
    assert preview.num_frames == 50 and whole.pose[60, 0] == pytest.approx(20, abs=0.1)
    np.testing.assert_allclose(preview.pose, whole.pose[:50], atol=1e-3)  # sums of float32
    np.testing.assert_allclose(preview.blink, whole.blink[:50], atol=1e-4)


def test_what_is_said_about_motion_is_drawn_under_the_recording(studio, inputs):
    files = str(inputs / "a face.png"), str(inputs / "long.wav")
    assert studio.show_motion(files[0], None, Settings()) == ""
    at_rest = studio.show_motion(*files, Settings())
    turned = studio.show_motion(*files, Settings(motion="at 1.25 s yaw 30; at 2 s eyes 0"))
    assert np.ptp(curve(at_rest, "yaw")[:, 1]) == 0
    yaw, eyes = curve(turned, "yaw"), curve(turned, "eyes")
    assert abs(yaw[:, 1].argmin() - 31) <= 1 and eyes[50, 1] == eyes[:, 1].max()
    assert "to 30 degrees" in turned and turned.count('dasharray="1 3"') == 2  # a mark for each keyframe
    with pytest.raises(ValueError, match="a keyframe is at 3 s, the clip ends at"):
        studio.show_motion(*files, Settings(motion="at 3 s yaw 30"))


def curve(drawing, name):
    points = re.search(rf'class="{name}" points="([^"]+)"', drawing)[1]
    return np.array([point.split(",") for point in points.split()], float)


def test_the_rest_of_a_stage_is_told_from_its_speed(monkeypatch):
    times_s = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr("diffusers_dawn.studio.progress.time.monotonic", lambda: next(times_s))
    progress = Progress()
    said = [progress.describe(*at) for at in (("denoising", 1, 4), ("denoising", 2, 4), ("frames", 1, 9))]
    assert said == ["denoising step 1 of 4", "denoising step 2 of 4, about 4 s left", "frame 1 of 9"]
    assert progress.describe("frames", 4, 9) == "frame 4 of 9, about 5 s left"


NAMES_OF_PAGE = {*LABELS.values(), *COLUMNS}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"image": "blank.png"}, "no face found in `Portrait`: it must show"),
        ({"image": None}, "`Portrait` is missing, must be a picture with a face"),
        ({"audio": "text.png"}, "`Speech` "),
        ({"motion": "fly away"}, "`What the head does`: 'fly away' is not understood"),
        (
            {"motion": "at 1 s yaw 120"},
            "`What the head does`: 'at 1 s yaw 120' cannot be: `yaw` is 120.0, must be from",
        ),
        ({"motion": "nod at 9 s"}, "`What the head does`: `nod` from 9.00 to"),
        ({"motion": "head from film.mp4"}, "`What the head does` names the file film.mp4, must be a text without"),
        ({"seed": -1}, "`Seed` is -1, must be from 0"),
        ({"size": 256}, "`Size` is 256, must be 128 at most here"),
        ({"size": 63}, "`Size` is 63, must be a positive multiple of"),
        ({"face_index": 3}, "`Number of the face` is 3, must be from 0"),
        ({"head_motion": 3.0}, "`Head motion` is 3"),
        ({"speech_guidance": -5000}, "`Guidance of speech`"),
        ({"label": "x" * 300}, "`Label in the picture`"),
        ({"enhance": True, "size": 128}, "`Enhance` draws"),
        ({"square_right": 90}, "`Adjust the square` is"),
    ],
)
def test_a_refusal_names_the_pages_controls_and_nothing_that_it_has_not(studio, inputs, given, sentence):
    given = {"image": "a face.png", "audio": "short.wav"} | given
    names = given.pop("image"), given.pop("audio")
    with pytest.raises(ValueError) as raised:
        studio.animate(*(name and str(inputs / name) for name in names), Settings(**{"preset": "fast"} | given))
    said = studio.describe(raised.value)
    assert said.startswith(sentence)
    assert set(re.findall("`([^`]+)`", said)) <= NAMES_OF_PAGE | {"nod"} and "--" not in said


def test_warnings_are_said_on_the_page_without_choices_that_it_has_not(studio, inputs):
    for name, layout in (("two.mkv", "mono"), ("one.wav", "stereo")):
        with av.open(str(inputs / name), "w") as container:
            num_tracks = 2 if name == "two.mkv" else 1
            for stream in [container.add_stream("pcm_s16le", 16_000, layout=layout) for _ in range(num_tracks)]:
                samples = np.zeros((1, 3200 * (2 if layout == "stereo" else 1)), np.int16)
                samples[0, 1::2] = 9000  # of two channels, the second
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
                frame.sample_rate = 16_000
                container.mux([*stream.encode(frame), *stream.encode(None)])
    for name, warning in (
        ("two.mkv", "⚠️ `Speech` has 2 sound tracks; number 0 is used, the first"),
        (
            "one.wav",
            "⚠️ `Speech` is silent in its first channel, the only one that is used: the mouth will hardly move",
        ),
    ):
        said = studio.forecast(str(inputs / name), Settings()).splitlines()
        assert said[2:] == [warning] and said[0].startswith("0.20 s of speech")
        assert warning in animate(studio, inputs, audio=name).report.splitlines()
    Image.open(inputs / "a face.png").rotate(180).save(inputs / "down.png")
    warning = "⚠️ `Portrait` was turned by 180 degrees counter-clockwise, so that the head is upright"
    assert warning in studio.find_face(str(inputs / "down.png"), Settings()).text.splitlines()


def test_a_memory_that_is_short_is_said_of_the_recording(studio, inputs, monkeypatch):
    monkeypatch.setattr(type(studio.pipe), "available_memory", lambda self: 1)
    with pytest.raises(ValueError, match="memory") as raised:
        studio.forecast(str(inputs / "long.wav"), Settings())
    assert studio.describe(raised.value).startswith("`Speech` has 62 frames, which needs")


def test_limits_are_positive(inputs):
    with pytest.raises(ValueError, match="`--max-seconds` is 0, must be positive"):
        Studio(inputs / "tiny", max_seconds=0)
