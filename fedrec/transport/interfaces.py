"""Every private interface of flwr that fedrec touches, and nothing else. Source: flwr 1.41.

A new flwr may move them: `tests/core/transport/test_interfaces.py` shows it. With `--stock` only the gate uses them.
"""

import logging
import traceback
from collections.abc import Callable
from typing import Any

log = logging.getLogger("fedrec.transport")

REPLY_SLEEP, IDLE_SLEEPS = 0.05, (0.1, 1.0)
"""Seconds that a SuperNode sleeps while its users work (Flower: 0.5), and when the server has no message for it (3):
first and longest sleep. Every request costs the server some 15 ms."""

TASK_SLEEP = 0.05
"""Seconds after which a busy executor asks for the next task; Flower's own is 1."""

PULL_BACKOFF = {"initial_backoff": 0.05, "backoff_cap": 2.0}
"""Seconds until a missing part of a message is requested again; Flower's own are 1 and 10."""


def quick_pulls() -> None:
    """Make this process request the parts of messages at the intervals of `PULL_BACKOFF`."""
    from flwr.supercore.inflatable import inflatable_utils

    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        if not PULL_BACKOFF.keys() <= function.__kwdefaults__.keys():
            raise RuntimeError(f"flwr's {function.__name__} has changed; start with --stock")
        function.__kwdefaults__.update(PULL_BACKOFF)


def give_up_parts_after(seconds: float) -> None:
    """Make a message an error in this process if its parts have not all arrived after so many seconds.

    Flower waits for a stopped upload until the link forgets it, 180 seconds, and meanwhile accepts no other reply.
    """
    from flwr.supercore.inflatable import inflatable_utils

    inflatable_utils.pull_objects.__kwdefaults__["max_time"] = max(0.0, seconds)


def survive_unreadable_replies() -> None:
    """Make the ServerApp's process turn a reply that cannot be unpacked into an error, and keep the other replies."""
    import flwr.superlink.grid.http_grid as grid
    from flwr.app import Message, Metadata
    from flwr.app.error import Error
    from flwr.app.message import make_message
    from flwr.common.constant import ErrorCode

    inflate = grid.inflate_object_from_contents

    def readable(*arguments: Any, **options: Any) -> Any:
        try:
            made = inflate(*arguments, **options)
            if isinstance(made, Message):
                return made
        except Exception as error:
            log.warning("a reply could not be unpacked (%s)", type(error).__name__)
        nowhere = Metadata(0, "", 0, 0, "", "", 0.0, 0.0, "system")
        return make_message(metadata=nowhere, error=Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason="unreadable"))

    grid.inflate_object_from_contents = readable


def wrap_link(wrap: Callable[[Any], None]) -> Callable[[], None]:
    """Return the main function of `flower-superlink`; `wrap` receives the FastAPI application before it serves."""
    import flwr.superlink.main as link
    from flwr.superlink.cli.flower_superlink import flower_superlink

    make = link.create_app

    def wrapped(*arguments: Any, **options: Any) -> Any:
        app = make(*arguments, **options)
        wrap(app)
        return app

    link.create_app = wrapped
    main: Callable[[], None] = flower_superlink
    return main


class NodeSleep:
    """Replacement of the module `time` in Flower's loop of a node: short sleeps, which grow while there is no work."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep, self._idle = sleep, IDLE_SLEEPS[0]

    def sleep(self, seconds: float) -> None:
        """Sleep. Flower's loop requests a second or more when the server had no message, less while a reply is due."""
        if seconds < 1:
            self._idle = IDLE_SLEEPS[0]
            self._sleep(min(seconds, REPLY_SLEEP))
        else:
            self._sleep(min(seconds, self._idle))
            self._idle = min(1.5 * self._idle, IDLE_SLEEPS[1])


def quick_node(ring: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Return the main function of `flower-supernode`, with `NodeSleep` and `PULL_BACKOFF`.

    Args:
        ring: called when a message is there and its task can be taken.
    """
    import time

    import flwr.supernode.start_client_internal as node
    from flwr.supernode.cli.flower_supernode import flower_supernode

    quick_pulls()
    node.time = NodeSleep(time.sleep)
    node._pull_and_store_message = _ringing(node._pull_and_store_message, ring)
    main: Callable[[], None] = flower_supernode
    return main


def _ringing(pull: Callable[..., Any], ring: Callable[[], None]) -> Callable[..., Any]:
    def pulled(*arguments: Any, **options: Any) -> Any:
        found = pull(*arguments, **options)
        if found is not None:
            ring()
        return found

    return pulled


class TaskSleep:
    """Replacement of the module `time` in Flower's loop of an executor: sleeps grow while there is no task.

    A task waits for at most a fortieth of the time since the one before, and an idle executor costs almost nothing.
    """

    def __init__(self, sleep: Callable[[float], None], idle: Callable[[], float]) -> None:
        """idle: seconds since the last task."""
        self._sleep, self._idle = sleep, idle

    def sleep(self, seconds: float) -> None:
        """Sleep for at most `seconds`, Flower's own choice."""
        self._sleep(min(seconds, max(TASK_SLEEP, self._idle() / 40)))


class TaskBell:
    """Replacement of the module `time` in Flower's loop of an executor that is rung for: it sleeps until then."""

    def __init__(self, wait: Callable[[float], None]) -> None:
        """wait: returns at a ring, or after its seconds."""
        self._wait = wait

    def sleep(self, seconds: float) -> None:
        """Sleep until the ring, for at most `seconds`, Flower's own choice: a lost ring costs no more."""
        self._wait(seconds)


def executor_with(executor: Any, wait: Callable[[float], None] | None = None) -> Callable[[], None]:
    """Return the main function of `flower-superexec`, which runs tasks with `executor`.

    Args:
        executor: an `Executor` of Flower that also has `idle`, the seconds since its last task.
        wait: waits for a ring, for so many seconds at most; None where nobody rings.
    """
    import time

    import flwr.supercore.superexec.run_superexec as superexec
    from flwr.supercore.cli.flower_superexec import flower_superexec

    quick_pulls()
    superexec.time = TaskSleep(time.sleep, executor.idle) if wait is None else TaskBell(wait)
    superexec.get_executor = lambda *_, **__: executor
    main: Callable[[], None] = flower_superexec
    return main


def forget_exit_handlers() -> None:
    """Drop the exit handlers of the parent in a forked child, which must not run them."""
    from flwr.supercore.exit import exit_handler

    exit_handler.registered_exit_handlers.clear()


def accepted() -> Any:
    """Return the answer of an executor that accepted a task."""
    from flwr.supercore.superexec.executor.types import LaunchResult

    return LaunchResult.accepted()


def is_client_task(spec: Any) -> bool:
    """Return whether a task is a message to a node; otherwise it is a run of the ServerApp."""
    from flwr.supercore.constant import TaskType

    return bool(spec.task_type == TaskType.CLIENT_APP)


def run_server_task(spec: Any, app: Any) -> None:
    """Run the ServerApp `app` as `flwr-serverapp` does, but ignore the app in the run's FAB.

    It ends with SystemExit. No command line contains the token.
    """
    import importlib
    from queue import Queue

    from flwr.supercore.logger import mirror_output_to_queue
    from flwr.supercore.tls import validate_and_resolve_root_certificates

    # Imported by name: the package has a function of the same name.
    runtime: Any = importlib.import_module("flwr.superlink.runtime.run_serverapp")

    def installed(grid: Any, context: Any, **_: Any) -> Any:
        app(grid=grid, context=context)
        return context

    runtime.run_ = installed
    survive_unreadable_replies()
    lines: Queue[str | None] = Queue()
    mirror_output_to_queue(lines)
    runtime.run_serverapp(
        runtime_api_address=spec.runtime_api_address,
        log_queue=lines,
        token=spec.token,
        insecure=spec.insecure,
        certificates=validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure),
        parent_pid=spec.parent_pid,
        runtime_dependency_install=False,
    )


def report_failure(spec: Any) -> None:
    """Report a task whose process died as failed; Flower itself would notice it after a minute."""
    from flwr.common.constant import SubStatus
    from flwr.supernode.runtime.run_clientapp import push_task_output

    client = _task_client(spec)
    push_task_output(client=client, context=None, sub_status=SubStatus.FAILED, details="its process ended")
    client.close()


def run_client_task(spec: Any, app: Any) -> None:
    """Answer one message with the ClientApp `app`, and ignore the app in the message's FAB.

    For an exception of the app, the answer is the name of its type alone. State that the app keeps in the context is
    dropped, because the node would keep a copy for every run.

    Raises:
        Exception: any error that keeps the reply from the node. The node then waits forever and must be restarted.
    """
    from flwr.app import Message, RecordDict
    from flwr.app.error import Error
    from flwr.common.constant import ErrorCode, SubStatus
    from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
    from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

    client = _task_client(spec)
    alive = HeartbeatSender(make_task_heartbeat_fn_http(client))
    alive.start()
    try:
        message, context, _, _ = pull_task_input(client)
        status, details = SubStatus.COMPLETED, ""
        try:
            reply = app(message=message, context=context)
        except Exception as error:
            # The text may quote data, so the log has the type and the place of the error alone.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("a message was not answered: %s at %s:%s", type(error).__name__, place[0], place[1])
            status, details = SubStatus.FAILED, type(error).__name__
            reply = Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=details), reply_to=message)
        context.state = RecordDict()
        push_message(client, reply, context)
        push_task_output(client=client, context=context, sub_status=status, details=details)
    finally:
        alive.stop()
        client.close()


def _task_client(spec: Any) -> Any:
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
    from flwr.supercore.retry import make_simple_http_retry_invoker
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supercore.tls import validate_and_resolve_root_certificates

    return RuntimeHttpClient.from_server_address(
        server_address=spec.runtime_api_address,
        insecure=spec.insecure,
        root_certificates=validate_and_resolve_root_certificates(spec.root_certificates_path, spec.insecure),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(spec.token),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )
