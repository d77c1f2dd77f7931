"""`flower-supernode` as a module that ends when the node ends: `python -m fedrec.transport.supernode OPTIONS`.

Flower's own command can live on as a process that asks for nothing, once a request failed for good, sleeps for seconds
between its questions, and ends by a traceback where two of its threads learn at once that the server refuses it.
"""

import os
import signal
import sys


def main() -> None:
    """Run the node, and exit with its code, or with 1 when it returned without a stop request.

    Each of Flower's threads that is refused interrupts the process. Flower ends in order at the first, and puts back
    what it found for the others, which then do nothing.
    """
    from fedrec.transport.interfaces import quick_node

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        quick_node()()
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
