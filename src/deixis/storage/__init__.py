"""Files, folders, journals and locks: everything that deixis leaves on a disk is written here.

The rule for durability:

* **A name means whole.** A file or folder is written under a draft name beside its place, forced to
  the disk (fsync), renamed, and the folder that holds the name is forced to the disk. Only then does
  the call return. After a kill or a power failure, the name holds the old content or all of the new.
* **A failed write leaves no trace.** The old content stays and the draft is removed. A killed process
  leaves its draft; the next process that locks the folder removes it (`clear_drafts`).
* **A journal loses at most the line that was being written.** Lines are appended and forced to the
  disk together; reading removes a last line that was cut.
* **A lock ends with its process.** The system releases it, however the process ends.
* **A refused write is one `StorageError`** that names the path and the reason.

``synced=False`` leaves out the disk, not the draft: such a file is whole after a kill but may be lost
in a power failure. It is for files of a folder that is itself written whole (`whole_folder` forces
all of them to the disk at its end) and for files that can be made again.
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
