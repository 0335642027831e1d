"""Decode a track packet by packet, so that a damaged packet affects nothing else."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .sources import import_av, time_s_of

if TYPE_CHECKING:
    import av


# containers that say how long they are; others are estimated, or measured from what is there
TRUSTED_LENGTHS = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flac", "aiff", "au", "wv", "tta"}
# a length that is said may be rounded, or count the padding of the last packet
LEAST_MISSING_S = 0.5


class PacketDecoder:
    """Decode one track of a file; packets that cannot be decoded are left out, with one warning at the end.

    A file that ends before its track does, because it was cut off or damaged, is warned about, too.

    Args:
        container: The open file.
        stream: The track.
        name: Argument name for the warning.
        loss: What the warning says of the damage, such as "silence takes their place".

    Attributes:
        end_s: Where the packets read so far end [s from the container's start]; None where they do not say.
        num_damaged: Places so far that could not be decoded.
    """

    def __init__(
        self, container: "av.container.InputContainer", stream: "av.stream.Stream", name: str, loss: str
    ) -> None:
        self.end_s: float | None = None
        self._container, self._stream, self._name, self._loss = container, stream, name, loss
        self._num_good = self.num_damaged = 0

    def __iter__(self) -> "Iterator[av.frame.Frame]":
        """Decode the frames in the order of showing.

        Yields:
            The frames.

        Raises:
            FFmpegError: Half of the packets or more cannot be decoded, or the file cannot be read on.
            ValueError: Most of what was decoded was rejected.
        """
        av, first_error = import_av(), None
        # what reading says of damage; a failing disk is another matter
        damage = (av.InvalidDataError, av.PatchWelcomeError, av.BugError, av.UnknownError, av.ExternalError)
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except damage as error:  # nothing can be read behind it
                first_error, self.num_damaged = first_error or error, self.num_damaged + 1
                break
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.FFmpegError as error:  # decoders give damage any number, also that of "not permitted"
                if isinstance(error, MemoryError):
                    raise
                first_error, self.num_damaged = first_error or error, self.num_damaged + 1
                frames = []
            self._note_end(packet)
            self._num_good += len(frames)
            yield from frames
        if self.num_damaged > self._num_good:
            raise first_error or ValueError(f"`{self._name}` is damaged: little of it can be decoded")
        if self.num_damaged:
            several = "s" * (self.num_damaged > 1)
            warnings.warn(f"`{self._name}` has {self.num_damaged} damaged place{several}; {self._loss}", stacklevel=2)
        self._warn_of_missing_end()

    def reject(self) -> None:
        """Count the last frame as damaged: it was decoded to what cannot be."""
        self._num_good, self.num_damaged = self._num_good - 1, self.num_damaged + 1

    def _warn_of_missing_end(self) -> None:
        container, stream = self._container, self._stream
        length_s = None
        if stream.duration is not None:
            length_s = float(stream.duration * stream.time_base)
        elif container.duration is not None and len(container.streams) == 1:
            length_s = container.duration / 1e6
        if length_s is None or self.end_s is None or container.format.name not in TRUSTED_LENGTHS:
            return
        # Matroska counts from zero, others from the start; this way neither is taken for cut off
        end_s = self.end_s + (container.start_time or 0) / 1e6
        if length_s - end_s > LEAST_MISSING_S:
            warnings.warn(
                f"`{self._name}` is cut off or damaged: it ends after {end_s:.2f} of {length_s:.2f} s", stacklevel=3
            )

    def _note_end(self, packet: "av.Packet") -> None:
        start_s = time_s_of(packet, self._container)
        if start_s is not None and packet.duration:
            end_s = start_s + float(packet.duration * packet.time_base)
            self.end_s = end_s if self.end_s is None else max(self.end_s, end_s)
