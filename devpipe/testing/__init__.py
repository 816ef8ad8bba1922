"""For tests of your own: a backend that follows a script, the contract of all backends, and a
server that speaks the text protocols.

    class TestShout(BackendContract):
        text_request = TextRequest("interception", "a cat in the rain")

        def backend(self, settings):
            return Shout(settings)
"""

from devpipe.testing.contract import BackendContract
from devpipe.testing.loopback import Asked, Canary, Loopback
from devpipe.testing.protocols import DROP, HANG, Answer
from devpipe.testing.scripted import ScriptedAnswer, ScriptedBackend, settings_for_tests

__all__ = [
    "DROP",
    "HANG",
    "Answer",
    "Asked",
    "BackendContract",
    "Canary",
    "Loopback",
    "ScriptedAnswer",
    "ScriptedBackend",
    "settings_for_tests",
]
