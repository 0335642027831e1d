"""Decode a track packet by packet, so that a damaged packet affects nothing else."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .sources import import_av, time_s_of
from .unframed_bytes import FRAME_LENGTHS, UnframedBytes

if TYPE_CHECKING:
    import av


# containers that say how long they are; others are estimated, or measured from what is there
TRUSTED_LENGTHS = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flv", "rm", "flac", "aiff", "au", "wv", "tta"}
# these may say it; otherwise it is made of their size and their bit rate
ESTIMATED_LENGTHS = {"mp3"}
# a length that is said may be rounded, or count the padding of the last packet
LEAST_MISSING_S = 0.5
# of these FFmpeg makes noise where they are damaged, unless it is asked to compare their sums
SUMMED_CODECS = {"flac", "wavpack"}


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
        self._first_byte, self._any_end_s = 0, 0.0
        kind = container.format.name
        self._unframed = UnframedBytes(kind) if kind in FRAME_LENGTHS else None
        if stream.codec_context.name in SUMMED_CODECS:
            stream.codec_context.options = {"err_detect": "crccheck+explode"}

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
        # of all tracks: those beside this one say where the file ends
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
            except damage as error:  # nothing can be read behind it
                first_error, self.num_damaged = first_error or error, self.num_damaged + 1
                break
            if packet is None:
                break
            if self._unframed is not None and packet.size and packet.stream.index == self._stream.index:
                num_missing = self._unframed.frames_before(bytes(packet))
                if num_missing and packet.pts is not None:
                    packet.pts += num_missing * (packet.duration or 0)
            self._note_end(packet)
            if packet.stream.index != self._stream.index:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:  # decoders give damage any number, also that of "not permitted"
                if isinstance(error, MemoryError):
                    raise
                first_error, self.num_damaged = first_error or error, self.num_damaged + 1
                frames = []
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
        end_s, length_s = self.end_s, None
        if stream.duration is not None:
            length_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            end_s, length_s = self._any_end_s, container.duration / 1e6
        if length_s is None or end_s is None or not self._says_length(length_s):
            return
        # Matroska counts from zero, others from the start; this way neither is taken for cut off
        end_s += (container.start_time or 0) / 1e6
        if length_s - end_s > LEAST_MISSING_S:
            warnings.warn(
                f"`{self._name}` is cut off or damaged: it ends after {end_s:.2f} of {length_s:.2f} s", stacklevel=3
            )

    def _says_length(self, length_s: float) -> bool:
        """Tell whether the file says how long it is."""
        kind, bit_rate = self._container.format.name, self._stream.bit_rate
        if kind not in ESTIMATED_LENGTHS:
            return kind in TRUSTED_LENGTHS
        num_bytes = self._container.size - self._first_byte
        return bool(bit_rate) and length_s - 8 * num_bytes / bit_rate > LEAST_MISSING_S

    def _note_end(self, packet: "av.Packet") -> None:
        start_s = time_s_of(packet, self._container)
        if start_s is None:
            return
        end_s = start_s + float((packet.duration or 0) * packet.time_base)
        self._any_end_s = max(self._any_end_s, end_s)
        if packet.stream.index == self._stream.index and packet.duration:
            if self.end_s is None:
                self._first_byte = packet.pos or 0
            self.end_s = end_s if self.end_s is None else max(self.end_s, end_s)
