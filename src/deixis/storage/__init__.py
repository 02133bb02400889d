"""Files, folders, journals and locks: all deixis output on a disk is written by this package.

The rule for durability:

* **A name means complete content.** A file or folder is written under a draft name in the same
  folder, forced to the disk (fsync) and renamed; then the containing folder is forced to the disk,
  and the call returns. After a kill or a power failure, the name has the old or the new content.
* **A failed write leaves no trace.** The old content stays and the draft is removed. A killed process
  leaves its draft; the next process that locks the folder removes it (`clear_drafts`).
* **A journal loses at most the line that was being written.** Lines are appended and forced to the
  disk together; reading removes an incomplete last line.
* **A lock ends with its process.** The operating system releases it.
* **A failed write is a `StorageError`** that names the path and the reason.

``synced=False`` omits the fsync, not the draft: such a file is complete after a kill but may be lost
in a power failure. Use it for files inside a `whole_folder`, which forces all files to the disk at
its end, and for files that can be made again.
"""

from deixis.storage.digests import is_sealed, json_digest, seal, sha256_of, sha256_of_files
from deixis.storage.files import (
    clear_drafts,
    discard,
    draft_of,
    make_folder,
    rename,
    storing,
    sync,
    whole_file,
    write_file,
    write_json,
)
from deixis.storage.folders import publish, whole_folder
from deixis.storage.journals import append_lines, keep_lines, read_lines
from deixis.storage.locks import locked_folder, waited_folder

__all__ = [
    "append_lines",
    "clear_drafts",
    "discard",
    "draft_of",
    "is_sealed",
    "json_digest",
    "keep_lines",
    "locked_folder",
    "make_folder",
    "publish",
    "read_lines",
    "rename",
    "seal",
    "sha256_of",
    "sha256_of_files",
    "storing",
    "sync",
    "waited_folder",
    "whole_file",
    "whole_folder",
    "write_file",
    "write_json",
]
