"""The gate before a device that is about to be closed."""

import errno
import threading

import pytest

from vhdx.fuse.gate import Gate


def test_shut_gate_lets_nobody_in() -> None:
    gate = Gate()
    with gate:
        pass
    gate.shut()
    with pytest.raises(OSError, match="shutdown") as caught, gate:
        pass
    assert caught.value.errno == errno.ESHUTDOWN


def test_shutting_waits_for_those_inside() -> None:
    gate = Gate()
    entered, go, order = threading.Event(), threading.Event(), []

    def call() -> None:
        with gate:
            entered.set()
            go.wait(60)
            order.append("call")

    def shut() -> None:
        gate.shut()
        order.append("shut")

    threads = [threading.Thread(target=call), threading.Thread(target=shut)]
    threads[0].start()
    entered.wait(60)
    threads[1].start()
    assert not order
    go.set()
    for thread in threads:
        thread.join(60)
    assert order == ["call", "shut"]
