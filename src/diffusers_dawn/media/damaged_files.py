"""Decode a track packet by packet, so that a damaged packet affects nothing else."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .sources import import_av, time_s_of

if TYPE_CHECKING:
    import av


class PacketDecoder:
    """Decode one track of a file; packets that cannot be decoded are left out, with one warning at the end.

    Args:
        container: The open file.
        stream: The track.
        name: Argument name for the warning.
        loss: What the warning says of the damage, such as "silence takes their place".

    Attributes:
        end_s: Where the packets read so far end [s from the container's start]; None where they do not say.
    """

    def __init__(
        self, container: "av.container.InputContainer", stream: "av.stream.Stream", name: str, loss: str
    ) -> None:
        self.end_s: float | None = None
        self._container, self._stream, self._name, self._loss = container, stream, name, loss
        av = import_av()
        # what decoders say of damage; a failing disk or too little memory is another matter
        self._damage = (av.InvalidDataError, av.PatchWelcomeError, av.BugError, av.UnknownError, av.ExternalError)

    def __iter__(self) -> "Iterator[av.frame.Frame]":
        """Decode the frames in the order of showing.

        Yields:
            The frames.

        Raises:
            FFmpegError: Half of the packets or more cannot be decoded, or the file cannot be read on.
        """
        num_decoded, damages = 0, []
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._damage as error:
                damages.append(error)  # nothing can be read behind it
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except self._damage as error:
                damages.append(error)
                frames = []
            self._note_end(packet)
            num_decoded += len(frames)
            yield from frames
        if len(damages) > num_decoded:
            raise damages[0]
        if damages:
            warnings.warn(
                f"`{self._name}` has {len(damages)} damaged place{'s' * (len(damages) > 1)}; {self._loss}",
                stacklevel=2,
            )

    def _note_end(self, packet: "av.Packet") -> None:
        start_s = time_s_of(packet, self._container)
        if start_s is not None and packet.duration:
            end_s = start_s + float(packet.duration * packet.time_base)
            self.end_s = end_s if self.end_s is None else max(self.end_s, end_s)
