"""Language models inside this process, by transformers on torch: nothing leaves the machine,
nothing is downloaded.

A model is a folder or a GGUF file, seen from the workspace, or an id of huggingface.co that
`hf download ID` has brought into this machine's cache. Weights are read from safetensors and GGUF
(with the packages gguf and accelerate) only, and a model's own code is never run: a file from
elsewhere must not be a program.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.backends.base import Backend, Emit, Health
from devpipe.backends.chat import LONGEST_ANSWER, Writing, messages
from devpipe.debris import is_debris
from devpipe.errors import BackendError, CutOff, Rejected, Unavailable
from devpipe.values import LOCAL_COST, Boundary, TextRequest, TextResult, canonical_sha256

if TYPE_CHECKING:
    from devpipe.config.settings import Settings

INSTALL = 'Run `pip install "devpipe-lab[local]"`.'
# a cancelled request waits for its thread, but not for a long first step: its end must be on disk
# within 1 s
LINGER_S = 0.5
_DECIDING = {
    ".gguf",
    ".json",
    ".jinja",
    ".model",
    ".safetensors",
    ".txt",
}  # the files of a model that decide its answers


class Transformers(Backend):
    """Writes with models of this machine, one request after the other in a thread of its own; a
    model is loaded once and kept.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._thread = ThreadPoolExecutor(1, "devpipe-transformers")
        self._models: dict[str, _Model] = {}
        self._cache = (
            settings.environment.get("HF_HUB_CACHE") or None
        )  # None: where huggingface_hub looks by itself

    async def write(self, request: TextRequest, emit: Emit) -> TextResult:
        """The model's answer, streamed; cancelling ends it at the next token.

        Raises Unavailable, Rejected or CutOff.
        """
        loop, left = asyncio.get_running_loop(), threading.Event()
        writing = Writing(
            request, lambda piece: None if left.is_set() else emit(piece), cost=LOCAL_COST
        )
        answer = _Answer(
            request.stop, lambda piece: loop.call_soon_threadsafe(writing.add, piece), left
        )
        job = self._thread.submit(self._write, request, answer, writing)
        try:
            return writing.result(await asyncio.wrap_future(job))
        except BackendError:
            raise
        # a foreign file makes transformers raise anything: OSError, KeyError, SafetensorError, ...
        except Exception as error:
            raise _ours(error, request.model, writing.text) from error
        finally:
            left.set()
            if job.running():
                await asyncio.to_thread(wait, [job], LINGER_S)

    def _write(self, request: TextRequest, answer: _Answer, writing: Writing) -> str:
        """Have it written, and say by which weights."""
        if request.model not in self._models:
            self._models[request.model] = self._load(request.model)
        self._models[request.model].write(request, answer, writing)
        return self._models[request.model].digest

    def _load(self, name: str) -> _Model:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        folder, bars = self._folder(name), logging.is_progress_bar_enabled()
        digest = _digest(folder)
        loads: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        form: dict[str, Any] = {"use_safetensors": True, "dtype": "auto"}
        if folder.suffix == ".gguf":
            loads["gguf_file"] = folder.name
            form = {"dtype": torch.float32}  # its weights are packed: they are read into plain ones
            folder = folder.parent
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **loads)
            network, told = AutoModelForCausalLM.from_pretrained(
                folder, output_loading_info=True, **form, **loads
            )
        finally:
            if bars:
                logging.enable_progress_bar()
        if told["missing_keys"]:
            raise ValueError(
                f"{len(told['missing_keys'])} of its weights are missing"
            )  # transformers has filled them with noise
        device = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
        return _Model(network.to(device), tokenizer, digest)

    def _folder(self, name: str) -> Path:
        """Where the model's files are on this machine."""
        from huggingface_hub import errors, try_to_load_from_cache

        folder = self.settings.home / Path(name).expanduser()
        if name and (folder.is_dir() or (folder.suffix == ".gguf" and folder.is_file())):
            return folder
        try:
            found = try_to_load_from_cache(name, "config.json", cache_dir=self._cache)
        except errors.HFValidationError as error:
            raise Unavailable(
                f"There is no folder {name!r}.",
                hint="Name one that holds a model, or an id of huggingface.co.",
            ) from error
        if not isinstance(found, str):
            raise Unavailable(
                f"The model {name} is not on this machine.", hint=f"Run `hf download {name}`."
            )
        return Path(found).parent

    async def digest(self, model: str) -> str:
        """Of the model in memory, else of its files; empty where there are none."""
        if model in self._models:
            return self._models[model].digest
        try:
            return await asyncio.to_thread(lambda: _digest(self._folder(model)))
        except (Unavailable, ImportError, OSError):
            return ""

    def boundary(self, model: str) -> Boundary:
        return "local"

    async def check(self) -> Health:
        """Whether the libraries are here, and which models are in this machine's cache."""
        try:
            torch, transformers = metadata.version("torch"), metadata.version("transformers")
            models = await asyncio.to_thread(self._cached)
        except ImportError as error:
            return Health(ready=False, detail=f"{error.name} is not installed.", hint=INSTALL)
        hint = (
            ""
            if models
            else (
                "No model is in the cache: `hf download ORGANISATION/MODEL` brings one of"
                " huggingface.co."
            )
        )
        return Health(True, f"torch {torch}", models, hint, transformers)

    def _cached(self) -> tuple[str, ...]:
        from huggingface_hub.constants import HF_HUB_CACHE

        configs = Path(self._cache or HF_HUB_CACHE).glob("models--*/snapshots/*/config.json")
        written = {
            path.parts[-4]
            for path in configs
            if re.search(r'"\w+ForCausalLM"', path.read_text("utf-8", "replace"))
        }
        return tuple(
            sorted(folder.removeprefix("models--").replace("--", "/") for folder in written)
        )

    async def close(self) -> None:
        """Let go of the models; what is being written ends with its own request."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._thread = ThreadPoolExecutor(1, "devpipe-transformers")
        self._models.clear()


def _digest(folder: Path) -> str:
    """Hash of all that decides the model's answers.

    A file of the cache is a link to one named by its hash; another one is read, once.
    """
    among = [folder] if folder.is_file() else folder.iterdir()
    files = {
        path.name: path.resolve()
        for path in among
        if path.suffix in _DECIDING and not is_debris(path.name)
    }
    named = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
    return canonical_sha256(
        {
            name: (
                real.name if named.fullmatch(real.name) else _sha256(real, real.stat().st_mtime_ns)
            )
            for name, real in files.items()
        }
    )


@lru_cache(maxsize=1000)
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ours(error: Exception, name: str, partial: str) -> BackendError:
    said = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    problem, hint = (
        f"{name} cannot be used: {said}.",
        "Bring all its files (`hf download ...`), or choose another model.",
    )
    if isinstance(error, ImportError):
        hint = INSTALL
    if isinstance(error, MemoryError) or re.search(
        "out of memory|allocate memory", said, re.IGNORECASE
    ):
        problem, hint = (
            f"There is too little memory for {name}.",
            "Choose a smaller model, or close other programs.",
        )
    return (
        CutOff(problem, hint=hint, partial=partial) if partial else Unavailable(problem, hint=hint)
    )


@dataclass
class _Answer:
    """An answer being written.

    transformers calls it after every token: it tells what is certain, and says when to stop.
    """

    stops: tuple[str, ...]
    tell: Callable[[str], object]
    left: threading.Event  # nobody waits any more
    decode: Callable[[Any], str] = str
    text: str = ""
    told: int = 0  # characters
    stopped: bool = False

    def __call__(self, ids: Any, scores: Any, **_: object) -> Any:
        text = self.decode(ids)
        ends = [text.index(stop) for stop in self.stops if stop in text]
        self.text, self.stopped = text[: min(ends, default=None)], bool(ends)
        # A stop string may have begun, and a letter's last bytes may be missing: both are held
        # back.
        begun = max(
            (n for stop in self.stops for n in range(1, len(stop)) if self.text.endswith(stop[:n])),
            default=0,
        )
        self.show(min(len(self.text) - begun, len(self.text.rstrip("\N{REPLACEMENT CHARACTER}"))))
        return ids.new_full((1,), self.stopped or self.left.is_set()).bool()

    def show(self, end: int) -> None:
        """The text up to here, once."""
        if end > self.told:
            self.tell(self.text[self.told : end])
            self.told = end


@dataclass(frozen=True, slots=True)
class _Model:
    """A model in memory."""

    network: Any  # transformers' PreTrainedModel
    tokenizer: Any
    digest: str

    def write(self, request: TextRequest, answer: _Answer, writing: Writing) -> None:
        """Have the whole answer written."""
        prompt, own = self._prompt(request).to(self.network.device), self.network.generation_config
        start, ends = prompt["input_ids"].shape[1], own.eos_token_id
        reads = (
            getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
            or start + LONGEST_ANSWER
        )
        if start >= reads:
            problem = (
                f"The text is too long: {start} tokens, and {request.model} reads {reads}, its"
                " answer included."
            )
            raise Rejected(problem, hint="Shorten it, or choose a model that reads more.")
        longest = min(request.max_tokens or LONGEST_ANSWER, reads - start)
        answer.decode = lambda ids: self._said(ids[0, start:].tolist())
        ids = self.network.generate(
            input_ids=prompt["input_ids"],
            attention_mask=prompt["attention_mask"],
            max_new_tokens=longest,
            num_beams=1,
            do_sample=False,
            logits_processor=self._draws(request),
            stopping_criteria=[answer],
        )
        answer.show(len(answer.text))
        writing.input_tokens, writing.output_tokens = start, ids.shape[1] - start
        ended = answer.stopped or ids[0, -1].item() in (ends if isinstance(ends, list) else [ends])
        writing.finish = "stop" if ended or writing.output_tokens < longest else "length"

    def _said(self, tokens: list[int]) -> str:
        """The text of these tokens without the model's end marks.

        Other marks stay: without them a thought would look like an answer.
        """
        ends = self.network.generation_config.eos_token_id
        left_out = {self.tokenizer.pad_token_id, self.tokenizer.eos_token_id}
        left_out.update(ends if isinstance(ends, list) else [ends])
        return str(
            self.tokenizer.decode(
                [token for token in tokens if token not in left_out],
                skip_special_tokens=False,
                clean_up_tokenization_spaces=False,
            )
        )

    def _prompt(self, request: TextRequest) -> Any:
        """The request as tokens: by the model's chat template where it has one, else its messages
        one after the other.
        """
        import jinja2

        said = [
            {"role": one["role"], "content": self._plain(one["content"])}
            for one in messages(request)
        ]
        together = "\n\n".join(one["content"] for one in said)
        if not self.tokenizer.chat_template:
            return self.tokenizer(f"{together}\n\n", return_tensors="pt")
        # enable_thinking: templates that know it leave the model's monologue out, others ignore it
        form = {
            "add_generation_prompt": True,
            "return_tensors": "pt",
            "return_dict": True,
            "enable_thinking": False,
        }
        try:
            return self.tokenizer.apply_chat_template(said, **form)
        except jinja2.TemplateError:  # Gemma's and older Mistral templates refuse the role `system`
            return self.tokenizer.apply_chat_template(
                [{"role": "user", "content": together}], **form
            )

    def _plain(self, text: str) -> str:
        """The text with the model's control marks broken up: nobody's words end their message and
        begin another one's.
        """
        for mark in (
            token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special
        ):
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def _draws(self, request: TextRequest) -> list[Callable[[Any, Any], Any]]:
        """How the next token is drawn: as the request says, else as the model's makers do; nothing
        where the likeliest is taken.

        The largest of score + Gumbel noise is a draw from the softmax of the scores (Maddison et
        al., arXiv:1411.0030, 2). So the seed needs no global generator: the one of the notebook
        stays as it is, and other threads that draw cannot disturb us.
        """
        import torch
        from transformers import (
            LogitsProcessorList,
            TemperatureLogitsWarper,
            TopKLogitsWarper,
            TopPLogitsWarper,
        )

        own = self.network.generation_config
        heat = request.temperature
        if heat is None:
            heat = (own.temperature or 1.0) if own.do_sample else 0.0
        if heat <= 0:
            return []
        steps = (
            (TemperatureLogitsWarper, float(heat)),
            (TopKLogitsWarper, own.top_k),
            (TopPLogitsWarper, own.top_p),
        )
        warm = LogitsProcessorList(step(value) for step, value in steps if value)
        generator = torch.Generator().manual_seed(request.seed)

        def draw(ids: Any, scores: Any) -> Any:
            return warm(ids, scores) - torch.empty(scores.shape).exponential_(
                generator=generator
            ).log().to(scores.device)

        return [draw]
