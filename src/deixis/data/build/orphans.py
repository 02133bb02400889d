"""Worker processes end when their parent does, however it ends."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

_ORPHANED = 1


def end_with_parent() -> None:
    """End this process as soon as the process that started it has ended; called once in a worker.

    A parent that is killed tells its workers nothing: they would go on writing, while the lock of the
    folder, which was the parent's, is free. The system closes the parent's end of a pipe, which a
    thread waits for. Files appear whole or not at all, so a worker may end anywhere.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        # no exception would reach the thread that works
        os._exit(_ORPHANED)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
