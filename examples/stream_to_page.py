"""Serve a page whose portrait talks along with the microphone: speech and frames go over one WebSocket.

    pip install starlette uvicorn websockets
    python examples/stream_to_page.py --image examples/portrait_1.png

Then open http://127.0.0.1:8000. Browsers give the microphone only to pages of this machine or of https.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import io
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from diffusers_dawn import DAWNPipeline, Portrait, demo_checkpoint, keep_freed_memory, read_motion

PAGE = Path(__file__).with_suffix(".html")
# chunks of speech that may wait; who speaks longer than rendering can follow is told so
MOST_WAITING = 1000
LONGEST_REASON = 120
REFUSED, TOO_SLOW = 1008, 1013


def packed(piece) -> bytes:
    """Write frames and their sound: first frame, samples, and JPEG pictures, each with its length before it."""
    parts = [np.array([piece.first_frame, len(piece.samples)], "<u4").tobytes(), piece.samples.astype("<f4").tobytes()]
    for frame in piece.frames:
        picture = jpeg(frame)
        parts += [np.array([len(picture)], "<u4").tobytes(), picture]
    return b"".join(parts)


def jpeg(frame: np.ndarray) -> bytes:
    """Write one picture."""
    picture = io.BytesIO()
    Image.fromarray(frame).convert("RGB").save(picture, "JPEG", quality=90)
    return picture.getvalue()


def arriving(chunks: queue.Queue) -> Iterator[np.ndarray]:
    """Wait for chunk after chunk until None comes."""
    while (chunk := chunks.get()) is not None:
        yield chunk


async def rate_of_speech(socket: WebSocket) -> object:
    """Take the first message, which says the sampling rate."""
    try:
        return (await socket.receive_json()).get("sampling_rate")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError('the first message must be JSON such as {"sampling_rate": 16000}') from error


async def listen(socket: WebSocket, chunks: queue.Queue) -> str:
    """Take speech until it ends; returns why it ended: "end", "gone" or "slow"."""
    try:
        while (message := await socket.receive())["type"] == "websocket.receive":
            if message.get("bytes") is None:
                return "end"
            if chunks.qsize() >= MOST_WAITING:
                return "slow"
            chunks.put(np.frombuffer(message["bytes"], "<f4"))
        return "gone"
    finally:
        chunks.put(None)


def make_app(pipe: DAWNPipeline, portrait: Portrait, **settings) -> Starlette:
    """Make the application.

    Args:
        pipe: The pipeline.
        portrait: Who talks.
        **settings: Further arguments of `pipe.stream`.

    Returns:
        Application for an ASGI server.

    Raises:
        ValueError: A setting is not allowed.
    """
    pipe.stream(portrait, (), 16_000, **settings)  # refuses it now, not when somebody speaks
    busy = asyncio.Lock()

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    async def at_rest(request: Request) -> Response:
        return Response(jpeg(portrait.image), media_type="image/jpeg")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        if busy.locked():
            await socket.close(TOO_SLOW, "somebody else is talking; try again later")
            return
        async with busy:
            with contextlib.suppress(WebSocketDisconnect):
                await converse(socket)

    async def converse(socket: WebSocket) -> None:
        chunks: queue.Queue = queue.Queue()
        listening = None
        try:
            stream = pipe.stream(portrait, arriving(chunks), await rate_of_speech(socket), **settings)
            listening = asyncio.create_task(listen(socket, chunks))
            # rendering takes a thread of its own, so that speech is heard meanwhile
            while (piece := await asyncio.to_thread(next, stream, None)) is not None:
                if listening.done() and listening.result() != "end":
                    break
                await socket.send_bytes(packed(piece))
            if listening.result() == "slow":
                await socket.close(TOO_SLOW, "this machine renders slower than you speak")
            elif listening.result() == "end":
                await socket.close()
        except ValueError as error:
            await socket.close(REFUSED, str(error)[:LONGEST_REASON])
        finally:
            if listening is not None:
                listening.cancel()
            chunks.put(None)  # a thread that waits for speech ends

    return Starlette(routes=[Route("/", page), Route("/portrait.jpg", at_rest), WebSocketRoute("/talk", talk)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the pipeline and serve the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="portrait")
    parser.add_argument("--checkpoint", default=demo_checkpoint(), help="saved pipeline")
    parser.add_argument("--preset", default="fast", help="sampler and steps by name")
    parser.add_argument("--motion", help="what the head does: a text such as 'head motion 0.5', or a track's file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args(arguments)
    missing = [name for name in ("uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} must be installed: pip install {' '.join(missing)}")
    import uvicorn

    keep_freed_memory()
    pipe = DAWNPipeline.from_pretrained(args.checkpoint).to(args.device)
    try:
        motion = None if args.motion is None else read_motion(args.motion, name="--motion")
        app = make_app(pipe, pipe.prepare_portrait(args.image), preset=args.preset, motion=motion)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    uvicorn.run(app, host=args.host, port=args.port)


if __name__ == "__main__":
    main()
