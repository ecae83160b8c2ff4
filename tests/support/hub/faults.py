"""What goes wrong on purpose: each function makes an action, which a `Fault` lets happen on chosen requests."""

import re
import threading
import time
from dataclasses import dataclass


@dataclass
class Fault:
    """`action` happens to the first `times` requests that match, after `skip` of them."""

    method: str
    route: str
    action: object
    times: int = 1
    skip: int = 0

    def matches(self, method, path):
        return self.method == method and re.search(self.route, path) is not None


class Faults:
    """The faults that a server has before it, and the requests that it got."""

    def __init__(self):
        self._lock = threading.Lock()
        self._waiting = []
        self.requests = []

    def add(self, method, route, action, **options):
        self._waiting.append(Fault(method, route, action, **options))

    def clear(self):
        with self._lock:
            self._waiting.clear()
            self.requests.clear()

    def count(self, method, route):
        return sum(method == sent and re.search(route, path) is not None for sent, path in self.requests)

    def next(self, method, path):
        with self._lock:
            self.requests.append((method, path))
            fault = next((fault for fault in self._waiting if fault.matches(method, path)), None)
            if fault is None:
                return None
            if fault.skip:
                fault.skip -= 1
                return None
            fault.times -= 1
            if not fault.times:
                self._waiting.remove(fault)
            return fault.action


# An action gets the request handler, and returns whether the request is done with.


def answer(status, message="on purpose", **headers):
    """The whole request is read and refused."""

    def act(handler):
        handler.read_body()
        handler.send_error_json(status, message, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return act


def drop(handler):
    """The connection ends without an answer."""
    handler.hang_up()
    return True


def break_upload(status=None):
    """Half of the body is read; then comes an error, or the connection ends."""

    def act(handler):
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)) // 2)
        if status is not None:
            handler.send_error_json(status, "on purpose")
        handler.hang_up()
        return True

    return act


def lose_answer(handler):
    """What was asked for is done, but the connection ends before the client hears of it."""
    handler.loses_answer = True
    return False


def delay(seconds):
    """The answer comes late."""

    def act(_):
        time.sleep(seconds)
        return False

    return act


def first(function):
    """Something else happens before the request is looked at."""

    def act(_):
        function()
        return False

    return act
