"""What the chat backends share: a request as messages, an answer as it comes, the way between."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from devpipe.backends.base import Backend, Delta, Emit, Health
from devpipe.backends.http import CHAT, COLD, Answer, Http, Timeouts
from devpipe.config.chains import Chain, outside
from devpipe.errors import BackendError, CutOff, Rejected
from devpipe.text.chatter import shipped_patterns
from devpipe.values import SAME, Boundary, Cost, TextRequest, TextResult

GLANCE = Timeouts(1.2, 1.2, connect=1)  # for checks: `devpipe check` is to end within 3 s
# tokens, where the request names no number: several pages, and an end to what would never stop
LONGEST_ANSWER = 4096
# tokens that come on top where a vendor counts as answer what its models think
LONGEST_THOUGHT = 12_288
AFTER_END_S = 10.0  # for what comes after the reason why an answer ended
# A server that does not heed its limit is read so far and no further. Of 128 tokens of prose in a
# row the longest had 5.0 characters each (Mistral's Tekken and Qwen's vocabulary, English and
# German; of tables 5.7), so that an answer that keeps to its limit never gets there.
CHARACTERS_A_TOKEN = 8
_LANGUAGES = {
    "ar": "Arabic",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fr": "French",
    "he": "Hebrew",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "zh": "Chinese",
}
# What may be a mark when more of it comes, or is one that nobody knows.
_MARK_BEGUN = re.compile(r"(?:[<＜\[\]◁]|&lt;)[^\s<>◁▷]{0,64}\Z|<[|｜]/?\w*\Z")
_ROLE_BEGUN = re.compile(r"[a-z]{0,20}(?: ?[a-z]{2,10}=?[a-z]{0,20})?(?:<[^<>]{0,64})?\Z")
_MARK = re.compile(
    r"(?:<|＜|&lt;)(?:[|｜](?:\Z|\w)|/?(?:think|s\b)|[^\s<>]{0,64}(?:\Z|[|｜]))", re.IGNORECASE
)
_STRIKES = re.compile(r"\s*<s>", re.IGNORECASE)
# What holds the words of a model in a message; numbers, names and keys beside them are none.
_NO_THOUGHTS = ("role", "content", "response")
_SPOKEN = ("text", "thinking", "summary", "content", "function", "arguments")
_ATTRIBUTES = re.compile(r"\s[^<>]{0,200}(?P<closed>>|\Z)")
_LONGEST_MARK = 64
# what may end a thought: a mark's last letter, "Here is my response:", "assistantfinal"
_MAY_END = re.compile(r"[>\]▷＞;]|response:|final|thinking\.", re.IGNORECASE)
_LONGEST_WORD = 16
_SURELY_MARK = 400  # characters after which what looked like a mark is one


def messages(request: TextRequest) -> list[dict[str, str]]:
    """The instruction as the system's message, and the text, alone and unchanged, as the user's."""
    demands = [request.instruction]
    if request.task != "judge":  # its instruction is the whole policy, to the letter
        code = request.output_language or request.language
        if code not in ("", SAME):
            language = _LANGUAGES.get(code, f"the language with the ISO 639-1 code {code!r}")
            demands.append(f"Write your answer in {language}.")
        if request.parts:
            names = ", ".join(f'"{name}"' for name in request.parts)
            demands.append(
                f"Answer with one JSON object and nothing else. Its keys are {names}; each value is"
                " a text."
            )
    said = [{"role": "user", "content": request.text}]
    system = "\n\n".join(filter(None, demands))
    if system:
        said.insert(0, {"role": "system", "content": system})
    return said


def parts_schema(parts: tuple[str, ...]) -> dict[str, object]:
    """JSON Schema of an answer in named parts."""
    names = {name: {"type": "string"} for name in parts}
    return {
        "type": "object",
        "properties": names,
        "required": list(parts),
        "additionalProperties": False,
    }


def forget(value: object) -> None:
    """Empty a JSON value with all in it: tracebacks may show local values, and an error may quote
    the key.
    """
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict | list):
            todo += one.values() if isinstance(one, dict) else one
            one.clear()


def as_judge(said: Mapping[str, Any], request: TextRequest) -> None:
    """Raises Rejected where a judge's message is not simply the assistant's, in one piece of text.

    Somebody else may have said SAFE.
    """
    is_assistant = said.get("role") in (None, "", "assistant") and not said.get("tool_calls")
    is_text = isinstance(said.get("content"), str | None)
    if request.task == "judge" and not (is_assistant and is_text):
        raise Rejected(
            f"{request.model} did not answer as an assistant.", hint="Choose another judge."
        )


def answer_begun(head: str) -> str | None:
    """The answer after its thoughts, as far as it has come; None while there may be none yet.

    >>> answer_begun("<think>Hm.</think>A red"), answer_begun("<think>Hm."), answer_begun("[TH")
    ('A red', None, None)
    """
    if _STRIKES.match(head):
        return None  # Llama's mark, or HTML's: its end will tell
    head = head.lstrip()
    rest = shipped_patterns().lead.sub("", head)
    is_role = rest != head and _ROLE_BEGUN.match(rest)
    may_be_mark = is_role or _MARK_BEGUN.match(rest)
    return None if may_be_mark or _is_thought(rest) or _may_become_thought(rest) else rest


def _is_thought(rest: str) -> bool:
    """Whether a thought begins there that has not ended."""
    patterns = shipped_patterns()
    begun = patterns.thought.match(rest)
    if begun:
        return not begun["end"]
    beginning = rest[: 4 * _LONGEST_MARK].lower()
    return any(_opens(beginning, opening) for opening in patterns.openings)


def _opens(beginning: str, opening: str) -> bool:
    """Whether a text begins with the opening; one in letters is glued to what is thought."""
    tag = _attributes(beginning, opening)
    if tag and tag["closed"]:
        return True
    after = beginning[len(opening) :]
    return beginning.startswith(opening) and (not opening.isalpha() or after[:1].isalpha())


def _may_become_thought(rest: str) -> bool:
    """Whether a thought may begin there when more comes; a few letters tell too little to wait."""
    beginning = rest[:_LONGEST_MARK].lower()
    is_clear = len(beginning) <= 3 and beginning.isalpha()
    return not is_clear and any(
        opening.startswith(beginning) or _attributes(rest.lower(), opening)
        for opening in shipped_patterns().openings
    )


def _attributes(rest: str, opening: str) -> re.Match[str] | None:
    """The attributes of a tag of this name, as far as they have come."""
    name = opening.removesuffix(">")
    if name == opening or not rest.startswith(name):
        return None
    return _ATTRIBUTES.match(rest, len(name))


def _length(value: object) -> int:
    """The characters that a model said in a field of a message, in whatever form."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_length, value))
    if isinstance(value, Mapping):
        return sum(_length(value.get(name)) for name in _SPOKEN)
    return 0


@dataclass
class Writing:
    """An answer as it comes: shown piece by piece, without what the model thinks aloud
    before it.
    """

    request: TextRequest
    emit: Emit
    model: str = ""
    finish: str = ""
    refused: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Cost = field(default_factory=Cost)
    # something of an answer has come, also a thought: it may be charged, and is asked for once
    begun: bool = False
    # tokens that the server was told to write at most, thoughts included; None: it keeps to them
    most_tokens: int | None = None
    overlong: bool = False  # more came than that: the rest is not read
    _heard: int = 0  # characters so far, also of thoughts
    _answered: int = 0  # of the answer alone
    _told: list[str] = field(default_factory=list)
    _shown: list[str] = field(default_factory=list)
    _head: str | None = (
        ""  # a beginning that may still turn out to be a thought; None: the answer has begun
    )
    _held: str = ""  # what follows from the first mark on: shown to nobody before all is read

    def __post_init__(self) -> None:
        if self.judges:  # nothing is taken away
            self._head = None

    def hear(self, said: Mapping[str, Any]) -> None:
        """Note that an answer has begun: with a text, a thought, a call, but not with who
        speaks.
        """
        self.begun = self.begun or any(value for name, value in said.items() if name != "role")
        # the same thought may stand in two fields: reasoning and reasoning_content
        thoughts = [_length(value) for name, value in said.items() if name not in _NO_THOUGHTS]
        self._heard += max(thoughts, default=0)
        self._fit("")

    def _fit(self, piece: str) -> str:
        """As much of a piece as there is room for in what the server was told."""
        if self.most_tokens is None:
            return piece
        room = self.most_tokens * CHARACTERS_A_TOKEN - self._heard
        self._heard += len(piece)
        self.overlong = self.overlong or len(piece) > room
        return piece[: max(0, room)]

    def add(self, piece: object) -> None:
        """The next piece of the answer; what is no text is none."""
        if not isinstance(piece, str):
            return
        piece = self._fit(piece)
        self._told.append(piece)
        if self._head is not None:
            self._head += piece
            latest = self._head[-len(piece) - _LONGEST_WORD :]
            if len(self._head.lstrip()) > _LONGEST_MARK and not _MAY_END.search(latest):
                return  # within a thought, which is read again only where it may have ended
            begun = answer_begun(self._head)
            if begun is None:
                return
            piece = begun
            self._head = None
        self._show(self._within_step(piece))

    def _within_step(self, piece: str) -> str:
        """As much of a piece as there is room for in what the step lets an answer have."""
        most = self.request.max_tokens or LONGEST_ANSWER
        room = most * CHARACTERS_A_TOKEN - self._answered
        self._answered += len(piece)
        if len(piece) <= room or self.most_tokens is None:
            return piece
        self.overlong = True
        return piece[: max(0, room)]

    def _show(self, piece: str) -> None:
        """Show a piece of the answer, up to what may be a mark."""
        if len(self._held) > _SURELY_MARK:
            self._held += piece
            return
        if not self.judges:
            piece = self._held + piece
            mark = shipped_patterns().marks.search(piece) or _MARK.search(piece)
            self._held = piece[mark.start() :] if mark else ""
            piece = piece[: mark.start()] if mark else piece
        if piece:
            self._shown.append(piece)
            self.emit(Delta(piece))

    @property
    def judges(self) -> bool:
        """Whether it is a judge's answer, which is compared to the letter."""
        return self.request.task == "judge"

    @property
    def text(self) -> str:
        """The answer so far, without a thought that has not ended."""
        unclear = shipped_patterns().lead.sub("", (self._head or "").lstrip())
        unclear = "" if _is_thought(unclear) else unclear
        return "".join(self._shown) + unclear + self._held

    def result(self, digest: str = "") -> TextResult:
        """What became of it; `raw` is what was told, where that is more than what was shown."""
        text = self.text
        told = "".join(self._told)
        return TextResult(
            text,
            model=self.model or self.request.model,
            digest=digest,
            finish_reason="length" if self.overlong else self.finish,
            refused=self.refused,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=self.cost,
            raw=told if told != text else "",
        )


class Chat(Backend):
    """A server to chat with.

    A subclass says where it is, how it is asked (`body`) and what its answer means (`read`).
    """

    name: ClassVar[str]  # as registered
    path: ClassVar[str]
    start: ClassVar[str]  # what to do where it does not answer
    http: Http
    region: Boundary | None = (
        None  # where the server stands, if that is known; a private address is local
    )

    async def body(self, request: TextRequest) -> dict[str, Any]:
        """The request as the vendor spells it."""
        raise NotImplementedError

    def most_tokens(self, body: Mapping[str, Any], request: TextRequest) -> int:
        """The tokens that the server is told to write at most, thoughts included."""
        raise NotImplementedError

    def read(self, chunk: dict[str, Any], writing: Writing) -> None:
        """One piece of the answer. Raises the vendor's error where it holds one."""
        raise NotImplementedError

    def failed(self, chunk: dict[str, Any]) -> BackendError:
        """The vendor's error that a piece holds; the piece itself is emptied."""
        problem = self.http.error(0, {}, chunk)
        forget(chunk)
        return problem

    def chunks(self, answer: Answer) -> AsyncGenerator[dict[str, Any]]:
        """The answer's pieces, up to its end mark."""
        raise NotImplementedError

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The model's answer, streamed.

        A refusal is a result; an answer without its end raises CutOff.
        """
        self.keep_inside(request)
        writing = Writing(request, emit)
        body: dict[str, Any] | None = None
        try:
            body = await self.body(request)
            writing.most_tokens = self.most_tokens(body, request)
            await self.ask(body, writing)
            if not (writing.finish or writing.overlong):
                raise CutOff(
                    f"{self.http.name} stopped before the answer's end.",
                    hint="Try again, or choose another model.",
                )
        except BackendError as error:
            error.sent = error.sent and body is not None  # what is looked up before costs nothing
            self.unfinished(error, writing)
        sent = {name: value for name, value in (body or {}).items() if name != "messages"}
        return replace(self.finished(writing), sent=sent)

    def keep_inside(self, request: TextRequest) -> None:
        """Raises Rejected where the text would leave the boundary."""
        place = self.boundary(request.model)
        if outside(place, request.boundary):
            problem = (
                f"{self.http.name} would take the text too far: {request.model} is {place!r}, and"
                f" {request.boundary!r} is allowed."
            )
            raise Rejected(
                problem,
                hint="Choose a model inside this boundary, or change the boundary in devpipe.toml.",
            )

    async def ask(self, body: Mapping[str, Any], writing: Writing) -> None:
        """Send it once, and read the answer as it comes, as far as it may go.

        Leaving, also by a cancel, closes the connection.
        """
        timeouts = CHAT if self.paid else COLD
        async with (
            self.http.stream(self.path, body, timeouts=timeouts) as answer,
            aclosing(self.chunks(answer)) as chunks,
        ):
            async for chunk in chunks:
                self.read(chunk, writing)
                if writing.overlong:
                    return
                if writing.finish:  # a count and an end mark may follow, nothing that takes long
                    answer.end_within(AFTER_END_S)
            if writing.judges:
                await answer.rest()

    def unfinished(self, error: BackendError, writing: Writing) -> None:
        """Raise the error with what came before it, but for a refusal, and where a whole answer
        only lost its end mark.
        """
        if error.vendor and error.vendor.kind == "moderation":
            writing.refused = error.vendor.message or error.message
            writing.finish = "refused"
        elif isinstance(error, CutOff) and writing.finish and not writing.judges:
            return
        elif isinstance(error, CutOff) or writing.begun:
            sent = error.sent or writing.begun
            raise CutOff(
                error.message, hint=error.hint, partial=writing.text, vendor=error.vendor, sent=sent
            ) from error
        else:
            raise error

    def finished(self, writing: Writing) -> TextResult:
        """The result of an answer that came to its end."""
        return writing.result()

    def boundary(self, model: str) -> Boundary:
        """How far a request travels: what the person says of the server goes before its address."""
        return (
            self.settings.region(self.name)
            or self.region
            or ("local" if self.http.private else "world")
        )

    async def look(self) -> Health:
        """What is there. Raises Unavailable where nobody answers."""
        raise NotImplementedError

    async def check(self) -> Health:
        """Whether it answers, what it serves, and what is missing; no model is made to work."""
        try:
            return await self.look()
        except BackendError as error:
            refused = error.vendor and error.vendor.status in (401, 402, 403)
            return Health(
                ready=False, detail=error.message, hint=error.hint if refused else self.start
            )

    def wanted(self) -> list[str]:
        """The models of this backend that the settings name."""
        chains = [Chain.read(models) for models in self.settings.models.values()]
        return sorted(
            {one.model for chain in chains for one in chain.candidates if one.backend == self.name}
        )

    @property
    def declared_local(self) -> bool:
        """Whether the person says that the server stands in the house: then no proxy is to see what
        it is sent.
        """
        return self.settings.region(self.name) == "local"

    async def close(self) -> None:
        await self.http.close()
