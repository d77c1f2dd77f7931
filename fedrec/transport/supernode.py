"""`flower-supernode` as a module that ends when the node ends: `python -m fedrec.transport.supernode OPTIONS`.

It avoids three faults of Flower's own command. After a request has failed for good, that process stays and sends no
further requests. It sleeps for seconds between its requests. It ends with a traceback if the server refuses two of its
threads at once.
"""

import os
import signal
import sys


def main() -> None:
    """Run the node, and exit with its code, or with 1 when it returned without a stop request.

    Each of Flower's threads that is refused interrupts the process. Flower ends in order at the first interrupt, and
    the original handler then ignores the others.
    """
    from fedrec.transport.doorbell import Doorbell
    from fedrec.transport.interfaces import quick_node

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        bell = Doorbell.of_environment()
        (quick_node() if bell is None else quick_node(bell.ring))()
        code = 1
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException as error:
        print(f"ERROR :     the node ended by {type(error).__name__}", flush=True)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # its threads would keep the process


if __name__ == "__main__":
    main()
