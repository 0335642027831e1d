"""Give damage in sound files without time stamps the time that it covers, so that what follows is not early."""

from .chunked_files import CHUNK_HEAD_BYTES, ac3_length, mpeg_audio_length, tag_length

TAG_TITLES = (b"ID3", b"APETAGEX", b"TAG")
# containers that are nothing but frames; of AAC, FFmpeg does not tell what it passes over
FRAME_LENGTHS = {"mp3": mpeg_audio_length, "ac3": ac3_length, "eac3": ac3_length}


class UnframedBytes:
    """Count the time of damage before each packet.

    FFmpeg makes one packet of all bytes between two frames that it recognises, and lets it last one frame.

    Args:
        container: Name of the container's kind, one of `FRAME_LENGTHS`.
    """

    def __init__(self, container: str) -> None:
        self._length_of = FRAME_LENGTHS[container]
        self._num_frames, self._frame_bytes = 0, 0
        self._num_bad, self._bad_bytes = 0, 0

    def frames_before(self, content: bytes) -> int:
        """Tell how many frames later than its time stamp the next packet begins.

        Args:
            content: The packet.

        Returns:
            How many frames the damage before it covers, beyond those that FFmpeg counted.
        """
        # as long as frames were so far; of a constant bit rate, that is exact
        num_covered = round(self._bad_bytes * self._num_frames / self._frame_bytes) if self._num_frames else 0
        num_missing = max(num_covered - self._num_bad, 0)
        if self._length_of(content[:CHUNK_HEAD_BYTES]) == len(content):
            self._num_frames, self._frame_bytes = self._num_frames + 1, self._frame_bytes + len(content)
        else:
            tags = [content[place:] for title in TAG_TITLES if (place := content.find(title)) >= 0]
            tag_bytes = sum(tag_length(tag) or 0 for tag in tags)
            self._num_bad, self._bad_bytes = self._num_bad + 1, self._bad_bytes + max(len(content) - tag_bytes, 0)
        return num_missing
