"""A worker that hangs in its start, and is stopped: it takes no signal but SIGKILL."""

import os
import signal

if __name__ == "__main__":
    os.kill(os.getpid(), signal.SIGSTOP)
