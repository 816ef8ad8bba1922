"""What every backend keeps, as a test class to inherit."""

from __future__ import annotations

import asyncio
from pathlib import Path

from devpipe.backends.base import Backend, Delta, Emit, Health, Piece
from devpipe.config.settings import Settings
from devpipe.errors import BackendError
from devpipe.media.containers import sniff
from devpipe.testing.scripted import settings_for_tests
from devpipe.values import MediaRequest, MediaResult, TextRequest, TextResult


class BackendContract:
    """What every backend keeps. Inherit, say which backend, and set what it can be asked.

    `text_request` and `media_request` are requests it must be able to answer; leave the other one
    None.
    """

    text_request: TextRequest | None = None
    media_request: MediaRequest | None = None
    repeatable = True  # the same request gives the same answer

    def backend(self, settings: Settings) -> Backend:
        """The backend under test, with whatever it needs faked at the wire."""
        raise NotImplementedError(
            "A test class that inherits BackendContract says which backend it tests: override"
            " `backend`."
        )

    def _ask(
        self, home: Path, request: TextRequest | MediaRequest
    ) -> tuple[TextResult | MediaResult, list[Piece]]:
        pieces: list[Piece] = []

        async def ask() -> TextResult | MediaResult:
            backend = self.backend(settings_for_tests(home))
            try:
                return await _asked(backend, request, pieces.append)
            finally:
                await backend.close()

        return asyncio.run(ask()), pieces

    def test_it_can_be_asked_for_something(self) -> None:
        """The contract is told at least one request."""
        assert self.text_request or self.media_request, "set text_request or media_request"

    def test_text_is_answered_with_its_model_and_what_it_cost(self, tmp_path: Path) -> None:
        if self.text_request:
            result, _ = self._ask(tmp_path, self.text_request)
            assert isinstance(result, TextResult) and (
                result.text or result.parts or result.refused
            )
            assert result.model
            assert result.cost.usd is not None or result.cost.source == "unknown"

    def test_streamed_pieces_are_the_text(self, tmp_path: Path) -> None:
        if self.text_request:
            result, pieces = self._ask(tmp_path, self.text_request)
            streamed = "".join(piece.text for piece in pieces if isinstance(piece, Delta))
            assert isinstance(result, TextResult)
            assert not streamed or streamed.split() == (result.raw or result.text).split()

    def test_media_are_what_their_bytes_say(self, tmp_path: Path) -> None:
        """Every file is of the media type it claims, and has an alternative text."""
        if self.media_request:
            result, _ = self._ask(tmp_path, self.media_request)
            assert isinstance(result, MediaResult) and (result.media or result.refused)
            for media in result.media:
                assert sniff(media.data) == media.media_type
                assert media.alt, "a screen reader needs a text: set Media.alt"

    def test_the_same_request_gives_the_same_answer(self, tmp_path: Path) -> None:
        """A repeatable backend keeps its seed."""
        for request in (self.text_request, self.media_request):
            if request and self.repeatable:
                assert self._ask(tmp_path, request)[0] == self._ask(tmp_path, request)[0]

    def test_what_it_cannot_do_is_rejected(self, tmp_path: Path) -> None:
        """A text backend asked for a medium, or the other way round, answers with one of our errors
        that says what to do.
        """
        if self.text_request and self.media_request:
            return
        other = (
            MediaRequest("image", {"prompt": "x"})
            if self.text_request
            else TextRequest("interception", "x")
        )
        try:
            self._ask(tmp_path, other)
        except BackendError as error:
            assert error.hint
        else:
            raise AssertionError("it answered what it cannot do")

    def test_it_can_be_checked_and_closed_twice(self, tmp_path: Path) -> None:
        """`check` says whether it is ready, and closing again does no harm."""

        async def visit() -> Health:
            backend = self.backend(settings_for_tests(tmp_path))
            health = await backend.check()
            await backend.close()
            await backend.close()
            return health

        health = asyncio.run(visit())
        assert health.ready or health.hint

    def test_cancelling_ends_it(self, tmp_path: Path) -> None:
        """A cancelled request ends with CancelledError, or was quicker than the cancellation."""

        async def cancel(request: TextRequest | MediaRequest) -> None:
            backend = self.backend(settings_for_tests(tmp_path))
            task = asyncio.ensure_future(_asked(backend, request, lambda piece: None))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=10)
            assert task.done(), "it went on after it was cancelled"
            await backend.close()

        for request in (self.text_request, self.media_request):
            if request:
                asyncio.run(cancel(request))


async def _asked(
    backend: Backend, request: TextRequest | MediaRequest, emit: Emit
) -> TextResult | MediaResult:
    return await (
        backend.write(request, emit)
        if isinstance(request, TextRequest)
        else backend.make(request, emit)
    )
