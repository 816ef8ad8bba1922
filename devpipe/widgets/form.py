"""What a person asks for, as controls: text, attitude, output, seed, pictures and the output's
settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ipywidgets as ui
from pydantic import BaseModel, ConfigDict, Field

from devpipe.config.catalogue import Catalogue
from devpipe.config.models import OutputConfig, Parameter
from devpipe.record.summary import RunSummary
from devpipe.show.html import fold, h
from devpipe.show.language import page_language
from devpipe.text.messages import message
from devpipe.values import Scalar, seed_in_range

PICTURES = ("image", "mask", "control")
ASKED = {"pipeline", "output", "parameters", "instruction", "text_seed"}
FIRST = {"pipeline": "dada", "output": "sketch"}  # chosen until somebody chooses


class Filled(BaseModel):
    """A request to fill in. It may come from a picture's metadata: foreign data."""

    model_config = ConfigDict(extra="ignore")
    texts: dict[str, str] = Field(min_length=1)
    pipeline: str
    output: str
    seed: int | None = None
    text_seed: int | None = None
    parameters: dict[str, Scalar] = {}
    instruction: str = ""

    @classmethod
    def of(cls, summary: RunSummary) -> Filled | None:
        """What a recorded run was asked; None where its beginning is lost."""
        started = summary.started
        texts = started and (started.texts or summary.stages["input"].texts)
        if not started or not texts:
            return None
        return cls.model_validate(
            started.model_dump(
                include={"pipeline", "output", "parameters", "instruction", "text_seed"}
            )
            | {"texts": texts, "seed": summary.seed}
        )


class Choice(ui.Dropdown):  # type: ignore[misc]
    """A list whose labels may change while somebody chooses from it."""

    def relabel(self, labels: Sequence[str]) -> None:
        """Show these labels for the same options.

        Given anew as `options`, they would first choose the first one, and then again what was
        chosen: whoever presses an arrow key at that moment would lose their choice.
        """
        self.set_trait("_options_labels", tuple(labels))


class Folded:
    """Controls out of sight until somebody opens them.

    A button, since that is reached by Tab and pressed by Enter: ipywidgets' Accordion is neither.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self.button = ui.Button().add_class("dp-fold")
        self.inside = ui.VBox().add_class("dp-settings")
        self.widget = ui.VBox([self.button, self.inside]).add_class("dp-folded")
        self.button.on_click(lambda _: self.turn())
        self.turn(open_=False)

    def turn(self, *, open_: bool | None = None) -> None:
        """Open it where it is closed, and the other way round; or as it is told."""
        shown = self.inside.layout.display == "none" if open_ is None else open_
        self.inside.layout.display = None if shown else "none"
        self.button.description = f"{'▾' if shown else '▸'} {self._title}"

    def fill(self, controls: Iterable[Any]) -> None:
        """Put these controls inside, in the place of others."""
        self.inside.children = tuple(controls)


class Form:
    """The controls, those in sight that the chosen pipeline and output need."""

    def __init__(self, catalogue: Catalogue, *, language: str = "") -> None:
        self._catalogue = catalogue
        self.language = page_language(language)
        self.texts = {name: self._textarea(name) for name in ("prompt", "prompt_2")}
        self.texts["prompt"].rows = 4
        self.instruction = self._textarea("instruction")
        self.pipeline = self._choice("pipeline", catalogue.interceptions)
        self.output = self._choice("output", catalogue.outputs)
        self.about = {name: ui.HTML().add_class("dp-about") for name in ("pipeline", "output")}
        self.seed = self._seed("seed", message("form.seed_hint", self.language))
        self.text_seed = self._seed("text_seed", message("form.seed_follows", self.language))
        self.uploads = {name: self._upload(name) for name in PICTURES}
        self._controls: dict[str, dict[str, Any]] = {}  # by output: made once, kept
        self.settings = Folded(message("form.settings", self.language))
        self.reasons: Mapping[str, Sequence[str]] = {}  # by output: why it cannot be made now
        self.pipeline.observe(lambda _: self._fit(), "value")
        self.output.observe(lambda _: self._fit(), "value")
        self._fit()

    def _seed(self, name: str, hint: str) -> Any:
        field = ui.Text(
            description=message(f"form.{name}", self.language),
            placeholder=hint,
        )
        return field.add_class("dp-" + name.replace("_", "-"))

    def _textarea(self, name: str) -> Any:
        area = ui.Textarea(
            description=message(f"form.{name}", self.language),
            placeholder=message(f"form.{name}_hint", self.language),
            rows=2,
        )
        return area.add_class("dp-" + name.replace("_", "-"))

    def _upload(self, name: str) -> Any:
        upload = ui.FileUpload(
            accept="image/png,image/jpeg,image/webp",
            description=message(f"form.{name}", self.language),
        )
        return upload.add_class(f"dp-{name}")

    def _choice(self, name: str, entries: Mapping[str, Any]) -> Any:
        options = sorted((entry.title.in_(self.language), key) for key, entry in entries.items())
        first = FIRST[name] if FIRST[name] in entries else options[0][1]
        label = message(f"form.{name}", self.language)
        return Choice(description=label, options=options, value=first).add_class(f"dp-{name}")

    @property
    def rows(self) -> list[Any]:
        """What everybody needs, in the order in which people read it."""
        chosen = [
            self.pipeline,
            self.about["pipeline"],
            self.instruction,
            self.output,
            self.about["output"],
        ]
        return [*self.texts.values(), *chosen, *self.uploads.values()]

    def _fit(self) -> None:
        """Show what the choice needs, hide the rest."""
        pipeline, output = (
            self._catalogue.interception(self.pipeline.value),
            self._catalogue.output(self.output.value),
        )
        media, needed = (
            self._catalogue.media_pipeline(output.pipeline),
            self._catalogue.required_images(output),
        )
        self.about["pipeline"].value = f"<p>{h(pipeline.description.in_(self.language))}</p>"
        self.about["output"].value = self._about_output(output)
        shown = {
            self.instruction: pipeline.user_instruction,
            self.texts["prompt_2"]: "prompt_2" in media.texts,
        }
        shown |= {self.settings.widget: bool(output.parameters)} | {
            self.uploads[name]: name in needed for name in PICTURES
        }
        for widget, wanted in shown.items():
            widget.layout.display = None if wanted else "none"
        if output.name not in self._controls:
            self._controls[output.name] = {
                name: self._control(name, parameter)
                for name, parameter in output.parameters.items()
            }
        self.settings.fill(self._controls[output.name].values())

    def _about_output(self, output: OutputConfig) -> str:
        """What the output is; of one that cannot be made now that, and for an adult why."""
        about = f"<p>{h(output.description.in_(self.language))}</p>"
        reasons = self.reasons.get(output.name, ())
        if not reasons:
            return about
        cannot = message("form.cannot_be_made", self.language)
        why = "".join(f"<p>{h(reason)}</p>" for reason in reasons)
        folded = fold(message("page.exact_words", self.language), why)
        return f'{about}<p class="dp-cannot">✗ {h(cannot)}</p>{folded}'

    def mark_unready(self, reasons: Mapping[str, Sequence[str]]) -> None:
        """Let the outputs that cannot be made now look otherwise than the others, and say why."""
        self.reasons = {name: why for name, why in reasons.items() if why}
        chosen = self.output.value
        self.output.relabel([self._label(name) for _, name in self.output.options])
        self.about["output"].value = self._about_output(self._catalogue.output(chosen))

    def tell_seeds(self, summary: RunSummary) -> None:
        """Which seeds a run had, where nobody set them."""
        drawn = not self.seed.value.strip()
        hint = message("form.seed_hint", self.language)
        text_hint = message("form.seed_follows", self.language)
        if drawn and summary.seed:
            hint = message("form.seed_drawn", self.language, seed=summary.seed)
        if drawn and summary.started:
            seed = summary.started.text_seed
            text_hint = message("form.seed_drawn", self.language, seed=seed)
        self.seed.placeholder, self.text_seed.placeholder = hint, text_hint

    def unready(self, output: str) -> Sequence[str]:
        """Why this output cannot be made now, as far as somebody has looked."""
        return self.reasons.get(output, ())

    def _label(self, output: str) -> str:
        title = self._catalogue.output(output).title.in_(self.language)
        if output not in self.reasons:
            return title
        return message("form.not_ready", self.language, output=title)

    def _control(self, name: str, parameter: Parameter) -> Any:
        title = parameter.title.in_(self.language) if parameter.title else name
        told = {
            "description": title,
            "tooltip": parameter.description.in_(self.language),
            "value": parameter.default,
        }
        if parameter.choices:
            return ui.Dropdown(options=list(parameter.choices), **told)
        if parameter.type in ("string", "boolean"):
            return (
                ui.Text(**told) if parameter.type == "string" else ui.Checkbox(indent=False, **told)
            )
        whole = parameter.type == "integer"
        limits = {"min": parameter.minimum, "max": parameter.maximum}
        if None in limits.values():
            return (ui.IntText if whole else ui.FloatText)(**told)
        kind, cast = (ui.BoundedIntText, int) if whole else (ui.BoundedFloatText, float)
        return kind(
            **told,
            **{name: cast(limit) for name, limit in limits.items() if limit is not None},
            step=1 if whole else 0.05,
        )

    def asked(self) -> dict[str, Any]:
        """What the controls say, as the engine takes it.

        Raises UsageError for a seed that is none.
        """
        seen = {name: area for name, area in self.texts.items() if area.layout.display != "none"}
        prompt = {
            name: area.value
            for name, area in seen.items()
            if name == "prompt" or area.value.strip()
        }
        pictures = {
            name: bytes(up.value[0]["content"])
            for name, up in self.uploads.items()
            if up.layout.display != "none" and up.value
        }
        parameters = {
            name: control.value for name, control in self._controls[self.output.value].items()
        }
        return {
            "prompt": prompt,
            "pipeline": self.pipeline.value,
            "output": self.output.value,
            "seed": seed_in_range(self.seed.value.strip() or None),
            "text_seed": seed_in_range(self.text_seed.value.strip() or None, name="text_seed"),
            "parameters": parameters,
            "instruction": (
                self.instruction.value if self.instruction.layout.display != "none" else ""
            ),
            **pictures,
        }

    def fill(self, asked: Filled) -> None:
        """Set the controls to this request.

        Raises UsageError, and changes nothing, where this workspace lacks what it names.
        """
        self._catalogue.interception(asked.pipeline)
        values = self._catalogue.output(asked.output).resolve(asked.parameters)
        seed_in_range(asked.seed)
        seed_in_range(asked.text_seed, name="text_seed")
        self.pipeline.value, self.output.value = asked.pipeline, asked.output
        for name, area in self.texts.items():
            area.value = asked.texts.get(name, "")
        self.instruction.value = asked.instruction
        self.seed.value = str(asked.seed or "")
        self.text_seed.value = str(asked.text_seed or "")
        for name, value in values.items():
            self._controls[asked.output][name].value = value
