"""Ends worker processes when their parent process ends."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

_ORPHANED = 1


def end_with_parent() -> None:
    """End this process as soon as its parent process has ended; call it once in each worker.

    Without this, the workers of a killed parent would go on writing although the parent's lock of
    the folder is free. A thread waits until the system closes the parent's end of a pipe. Files are
    written whole or not at all, so a worker may end at any point.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        # an exception in this thread would not end the process
        os._exit(_ORPHANED)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
