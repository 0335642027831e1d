"""The studio's page in a headless Chromium, where it and playwright are installed."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from diffusers_dawn import launch_page, make_page
from diffusers_dawn.cli.command import main
from diffusers_dawn.media.videos import read_video
from diffusers_dawn.motion.track_files import load_track
from diffusers_dawn.sampling.presets import DEFAULT_PRESET, PRESETS
from diffusers_dawn.studio.jobs import VIDEO_NAME
from synthetic_media import tone, write_audio

sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
EXAMPLES = Path(__file__).parents[2] / "examples"
DESKTOP, PHONE = {"viewport": {"width": 1280, "height": 900}}, {"viewport": {"width": 390, "height": 844}}
PATIENCE_MS = 120_000
# nothing but the page is asked for anything
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, detector):
    folder = tmp_path_factory.mktemp("browser")
    assert main(["init", "--size", "tiny", "-o", str(folder / "tiny")]) == 0
    Image.open(EXAMPLES / "portrait_1.png").convert("RGB").save(folder / "portrait.png")
    write_audio(folder / "speech.wav", tone(duration_s=0.2)[None], 16_000, "pcm_s16le")
    write_audio(folder / "long.wav", tone(duration_s=20.0)[None], 16_000, "pcm_s16le")
    (folder / "no picture.png").write_text("no picture")
    (folder / "picture.wav").write_bytes((folder / "portrait.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def url(studio):
    page = make_page(studio, EXAMPLES)
    yield launch_page(page, studio, prevent_thread_lock=True, _frontend=False)[1]
    page.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield started
        started.close()


@pytest.fixture
def opened(browser, url):
    """Open the page as somebody new; all of them are closed afterwards."""
    contexts = []

    def opened(screen=DESKTOP):
        context = browser.new_context(**screen)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.get_by_role("button", name="portrait 1").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()


def give(page, kind, file):
    page.locator(f"input[type=file][accept*={kind}]").first.set_input_files(file)


def give_both(page, inputs, speech="speech.wav"):
    give(page, "image", inputs / "portrait.png")
    page.get_by_text("1 face found").wait_for()
    give(page, "audio", inputs / speech)
    page.get_by_text("s of speech").wait_for()


def open_part(page, name):
    page.locator("button.label-wrap", has_text=re.compile(f"^{name}")).click()


def click(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def uploads_of(studio):
    return {path.name for path in studio.folder.rglob("*") if path.is_file() and "portrait_" not in path.name}


def test_somebody_new_makes_a_video_plays_it_and_takes_it_home(opened, studio, inputs, tmp_path):
    page = opened()
    give_both(page, inputs)
    open_part(page, "Settings")
    page.get_by_label("fast").check()
    page.get_by_label("Seed").fill("7")
    open_part(page, "Keyframes")
    cells = page.get_by_role("gridcell")
    for cell, value in ((cells.nth(0), "0.1"), (cells.nth(1), "20")):
        cell.dblclick()
        page.keyboard.type(value)
        page.keyboard.press("Enter")
    page.wait_for_function("() => [...document.querySelectorAll('textarea')].some(e => e.value == 'at 0.1 s yaw 20')")
    page.get_by_text("What is said, on a head").wait_for()
    click(page, "Render")
    shown = page.locator("video")
    shown.wait_for()
    shown.evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("() => document.querySelector('video').ended")
    assert shown.evaluate("video => [video.videoWidth, video.error]") == [studio.pipe.default_size, None]
    with page.expect_download() as download:
        page.locator(f"a[href$='{VIDEO_NAME}']").click()
    download.value.save_as(tmp_path / "home.mp4")
    assert len(read_video(tmp_path / "home.mp4")[0]) == 5
    open_part(page, "Command")
    line = json.loads(page.get_by_text('"image": "portrait.png"').inner_text())
    assert (line["seed"], line["preset"], line["motion"]) == (7, "fast", "at 0.1 s yaw 20")
    with page.expect_download() as download:
        page.locator("a[href$='motion.json']").click()
    download.value.save_as(tmp_path / "motion.json")
    assert load_track(tmp_path / "motion.json").pose[2, 0] == pytest.approx(20, abs=0.1)


def test_files_that_cannot_be_read_are_named_and_gone(opened, studio, inputs):
    page = opened()
    before = uploads_of(studio)
    give(page, "image", inputs / "no picture.png")
    page.get_by_text("cannot be read as a picture (no picture.png)").wait_for()
    give(page, "audio", inputs / "picture.wav")
    page.get_by_text("has no audio track (picture.wav)").wait_for()
    # both are taken from the page, too
    for kind in ("an image", "an audio"):
        page.get_by_role("button", name=f"Drop {kind} file here to upload").wait_for()
    assert uploads_of(studio) == before
    click(page, "Render")
    page.get_by_text("is missing, must be a picture with a face").first.wait_for()
    give_both(page, inputs)
    assert page.get_by_text("cannot be read").count() == 0


def test_cancel_ends_the_job_and_the_page_goes_on(opened, studio, inputs):
    page = opened()
    give_both(page, inputs, "long.wav")
    before = uploads_of(studio)
    click(page, "Render")
    page.get_by_text(re.compile(r"denoising step \d+ of")).first.wait_for()
    click(page, "Cancel")
    said = page.get_by_text("cancelled, nothing was kept")
    said.wait_for()
    assert uploads_of(studio) == before
    page.wait_for_function("() => !/denoising step|Error/.test(document.body.innerText)")
    click(page, "Preview")
    page.locator("video").wait_for()
    assert said.count() == 0


def test_a_video_is_made_and_taken_home_by_keyboard_alone_and_every_button_has_a_name(opened, tmp_path):
    page = opened()
    focused = "document.activeElement"

    def go_to(wanted):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate(wanted.replace("@", focused)):
                assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") != "none"
                return
        raise AssertionError(f"not reached: {wanted}")

    go_to("@.innerText == 'portrait 3'")
    page.keyboard.press("Enter")
    page.get_by_text("1 face found").wait_for()
    go_to("@.innerText.trim() == 'speech_1.wav'")
    page.keyboard.press("Enter")
    page.get_by_text("4.00 s of speech").wait_for()
    go_to("@.tagName == 'TEXTAREA'")
    page.keyboard.type("at 1 s yaw 20")
    go_to("@.innerText.startsWith('Keyframes')")
    page.keyboard.press("Enter")
    page.get_by_text("What is said, on a head").wait_for()
    go_to("@.innerText.startsWith('Settings')")
    page.keyboard.press("Enter")
    go_to("@.type == 'radio'")
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("fast").is_checked()
    go_to("@.innerText == 'Render'")
    page.keyboard.press("Enter")
    page.locator("video").wait_for()
    go_to(f"@.closest('a')?.href.endsWith('{VIDEO_NAME}')")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "home.mp4")
    assert len(read_video(tmp_path / "home.mp4")[0]) == 100
    assert not re.search(r"- button:?\n", page.locator("body").aria_snapshot())
    assert page.locator("[aria-live=polite]", has_text="s of speech").count() == 1


def test_the_keyboard_reaches_every_control_which_has_a_name_and_is_seen_to_be_reached(opened, inputs):
    page = opened()
    give_both(page, inputs)
    for part in ("Adjust the square", "Keyframes", "Settings", "Command"):
        open_part(page, part)
    page.get_by_label("Label in the picture").wait_for()
    page.get_by_role("button", name="Use via API").focus()
    reached = []
    while "Use via API logo" not in reached:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement != document.body"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", reached
            focused = page.locator(":focus")
            reached.append(re.match(r"- \S+ \"(.+?)\"", focused.aria_snapshot().strip("' "))[1])
    assert {"portrait 6 icon portrait 6", "Upload file", "Record audio", "Play", "What the head does"} <= set(reached)
    assert {"range slider for Width", "range slider for Head motion", "Enhance", "Seed", "Size"} <= set(reached)
    assert {"Label in the picture", "Preview", "Render", "Cancel"} <= set(reached)
    assert [name for name in reached if name in PRESETS] == [DEFAULT_PRESET]  # from there, arrow keys go on
    assert page.get_by_role("button", name=re.compile("^Settings"), expanded=True).count() == 1


def test_on_a_phone_everything_is_as_wide_as_the_screen(opened, inputs):
    page = opened(PHONE)
    give_both(page, inputs)
    for part in ("Adjust the square", "Keyframes", "Settings", "Command"):
        open_part(page, part)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
    boxes = [
        page.get_by_role("button", name=name, exact=True).bounding_box() for name in ("Preview", "Render", "Cancel")
    ]
    assert len({(box["y"], box["height"]) for box in boxes}) == 1


def test_ten_people_at_once_each_get_their_own_video(opened, studio, inputs):
    pages = [opened(PHONE) for _ in range(10)]
    for seed, page in enumerate(pages):
        give_both(page, inputs)
        open_part(page, "Settings")
        page.get_by_label("fast").check()
        page.get_by_label("Seed").fill(str(seed))
    for page in pages:
        click(page, "Render")
    addresses = []
    for seed, page in enumerate(pages):
        addresses.append(page.locator("video").get_attribute("src"))
        open_part(page, "Command")
        assert json.loads(page.get_by_text('"image": "portrait.png"').inner_text())["seed"] == seed
    assert len(set(addresses)) == 10
