"""What a person asks for, as controls: text, attitude, output, seed, pictures and the output's
settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as ui
from pydantic import BaseModel, ConfigDict, Field

from devpipe.config.catalogue import Catalogue
from devpipe.config.models import Parameter
from devpipe.record.summary import RunSummary
from devpipe.show.html import h
from devpipe.text.messages import message, page_language
from devpipe.values import Scalar, seed_in_range

PICTURES = ("image", "mask", "control")
FIRST = {"pipeline": "dada", "output": "sketch"}  # chosen until somebody chooses


class Filled(BaseModel):
    """A request to fill in. It may come from a picture's metadata: foreign data."""

    model_config = ConfigDict(extra="ignore")
    texts: dict[str, str] = Field(min_length=1)
    pipeline: str
    output: str
    seed: int | None = None
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
            started.model_dump(include={"pipeline", "output", "parameters", "instruction"})
            | {"texts": texts, "seed": summary.seed}
        )


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
        self.seed = ui.Text(
            description=message("form.seed", self.language),
            placeholder=message("form.seed_hint", self.language),
        ).add_class("dp-seed")
        self.uploads = {name: self._upload(name) for name in PICTURES}
        self._controls: dict[str, dict[str, Any]] = {}  # by output: made once, kept
        self.settings = ui.Accordion(
            [ui.VBox().add_class("dp-settings")],
            titles=(message("form.settings", self.language),),
        )
        self.pipeline.observe(lambda _: self._fit(), "value")
        self.output.observe(lambda _: self._fit(), "value")
        self._fit()

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
        return ui.Dropdown(description=label, options=options, value=first).add_class(f"dp-{name}")

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
        for entry, name in ((pipeline, "pipeline"), (output, "output")):
            self.about[name].value = f"<p>{h(entry.description.in_(self.language))}</p>"
        shown = {
            self.instruction: pipeline.user_instruction,
            self.texts["prompt_2"]: "prompt_2" in media.texts,
        }
        shown |= {self.settings: bool(output.parameters)} | {
            self.uploads[name]: name in needed for name in PICTURES
        }
        for widget, wanted in shown.items():
            widget.layout.display = None if wanted else "none"
        if output.name not in self._controls:
            self._controls[output.name] = {
                name: self._control(name, parameter)
                for name, parameter in output.parameters.items()
            }
        self.settings.children[0].children = tuple(self._controls[output.name].values())

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
        self.pipeline.value, self.output.value = asked.pipeline, asked.output
        for name, area in self.texts.items():
            area.value = asked.texts.get(name, "")
        self.instruction.value, self.seed.value = asked.instruction, str(asked.seed or "")
        for name, value in values.items():
            self._controls[asked.output][name].value = value
