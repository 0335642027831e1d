"""The page of examples/stream_to_page.py, without a browser."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmark_scripts import imported_script
from example_runs import EXAMPLES
from pipeline_calls import face, picture, speech

pytest.importorskip("starlette")


@pytest.fixture
def talking_page(pipe):
    from starlette.testclient import TestClient

    with imported_script("stream_to_page", EXAMPLES) as example:
        app = example.make_app(pipe, pipe.prepare_portrait(picture(), face()), num_inference_steps=1)
        with TestClient(app) as client:
            yield client


def read_message(data: bytes) -> tuple[int, np.ndarray, list[Image.Image]]:
    first_frame, num_samples = np.frombuffer(data[:8], "<u4")
    at, pictures = 8 + 4 * num_samples, []
    while at < len(data):
        length = int(np.frombuffer(data[at : at + 4], "<u4")[0])
        pictures.append(Image.open(io.BytesIO(data[at + 4 : at + 4 + length])))
        at += 4 + length
    return int(first_frame), np.frombuffer(data[8 : 8 + 4 * num_samples], "<f4"), pictures


def test_page_gets_the_frames_of_what_is_said_with_their_sound(talking_page):
    page = talking_page.get("/").text
    assert "/talk" in page and "portrait.jpg" in page  # who is shown before anything is said
    assert Image.open(io.BytesIO(talking_page.get("/portrait.jpg").content)).size == (80, 80)
    received = []
    with talking_page.websocket_connect("/talk") as socket:
        socket.send_json({"sampling_rate": 16_000})
        for chunk in np.array_split(speech(35), 7):
            socket.send_bytes(chunk.tobytes())
        socket.send_text("end")
        while (message := socket.receive())["type"] == "websocket.send":
            received.append(read_message(message["bytes"]))
    assert message["code"] == 1000
    assert sum(len(pictures) for _, _, pictures in received) == 35 and received[0][2][0].size == (64, 64)
    assert np.array_equal(np.concatenate([samples for _, samples, _ in received]), speech(35))


def test_motion_that_no_stream_takes_is_refused_before_the_page_is_served(pipe):
    with imported_script("stream_to_page", EXAMPLES) as example:
        with pytest.raises(ValueError, match="`motion`: it says 'at the end'"):
            example.make_app(pipe, pipe.prepare_portrait(picture(), face()), motion="nod at the end")
        assert example.make_app(pipe, pipe.prepare_portrait(picture(), face()), motion="nod; head motion 0.5")


@pytest.mark.parametrize(
    ("begin", "chunk", "reason"),
    [
        ({}, None, "`sampling_rate` is None"),
        ({"sampling_rate": 16_000}, np.full(640, np.nan, "<f4").tobytes(), "NaN"),
        ({"sampling_rate": 16_000}, b"123", "buffer size"),
    ],
)
def test_page_is_told_why_its_speech_is_refused(talking_page, begin, chunk, reason):
    with talking_page.websocket_connect("/talk") as socket:
        socket.send_json(begin)
        if chunk is not None:
            socket.send_bytes(speech(2).tobytes())
            socket.send_bytes(chunk)
            socket.send_text("end")
        while (message := socket.receive())["type"] == "websocket.send":
            pass
    assert message["code"] == 1008 and reason in message["reason"]


@pytest.mark.parametrize("first", ["[16000]", "16000", "{", b"1234", "[" * 10**5])
def test_page_whose_first_message_is_no_object_is_told_what_it_must_be(talking_page, first):
    with talking_page.websocket_connect("/talk") as socket:
        (socket.send_bytes if isinstance(first, bytes) else socket.send_text)(first)
        message = socket.receive()
    assert message["code"] == 1008 and 'must be JSON such as {"sampling_rate": 16000}' in message["reason"]


def test_page_that_cannot_be_served_says_what_is_missing(monkeypatch, capsys):
    with imported_script("stream_to_page", EXAMPLES) as example:
        monkeypatch.setattr(example.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match="2"):
            example.main(["--image", "nobody.png"])
    assert "uvicorn and websockets must be installed: pip install uvicorn websockets" in capsys.readouterr().err
