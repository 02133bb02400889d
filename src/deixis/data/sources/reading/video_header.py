"""Video metadata from file headers, for samples and for the check of a build."""

from pathlib import Path

from deixis.data.sources.base import BadRecord
from deixis.geometry import ImageSize
from deixis.media.video_files import VideoError, read_video_header, shown_name
from deixis.structures import Video

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")


def video_of(content: Path | bytes) -> tuple[Video, ImageSize]:
    """Return a video with the metadata of its header, and the size of its upright frames.

    Raises:
        BadRecord: The video is missing, damaged, of an unsupported format or beyond the limits.
        RecipeError: The file is not a GIF and the extra ``video`` is not installed.
    """
    try:
        header = read_video_header(content)
    except VideoError as error:
        # messages name the file, not its folders
        name = content.name if isinstance(content, Path) else "embedded"
        raise BadRecord(error.code, f"{shown_name(name)}: {error.what}") from None
    return Video(content, header.num_frames, header.seconds), header.size
