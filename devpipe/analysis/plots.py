"""Small plots of the tables.

Each draws on `ax`, or on a figure of its own, and gives the axes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devpipe.errors import UsageError
from devpipe.media.pictures import decode, thumbnail
from devpipe.record.events import ArtifactWritten
from devpipe.show.html import shown_bytes, similarity
from devpipe.values import STAGES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

STATES = {  # Okabe and Ito's colours, which the colour-blind tell apart
    "completed": "#009e73",
    "blocked": "#e69f00",
    "failed": "#d55e00",
    "cancelled": "#999999",
    "interrupted": "#cc79a7",
    "running": "#56b4e9",
    "damaged": "#000000",
}


def durations(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Seconds of each stage, one box per stage over all runs that reached it."""
    ax = ax or _axes()
    told = {stage: runs[f"seconds_{stage}"].dropna().to_numpy() for stage in STAGES}
    ax.boxplot(
        list(told.values()),
        tick_labels=[f"{stage}\nn={len(seconds)}" for stage, seconds in told.items()],
    )
    ax.set(ylabel="seconds", title="Duration of the stages")
    return ax


def outcomes(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How the runs of each pipeline ended, as stacked bars with their numbers."""
    ax = ax or _axes()
    counts = runs.groupby("pipeline")["state"].value_counts().unstack(fill_value=0)
    left = counts.sum(axis=1) * 0
    for state, color in STATES.items():
        if state in counts:
            bars = ax.barh(
                counts.index.to_list(), counts[state], left=left, color=color, label=state
            )
            ax.bar_label(bars, [str(n or "") for n in counts[state]], label_type="center")
            left = left + counts[state]
    ax.set(xlabel="runs", title="Outcomes by pipeline")
    ax.locator_params(axis="x", integer=True)
    if len(counts):
        ax.legend(fontsize="small")
    return ax


def text_change(runs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How much each pipeline changed the texts: 0 kept every word, 1 none.

    One point per run, the mean as a line.
    """
    ax = ax or _axes()
    told = runs.dropna(subset=["input_text", "interception_text"])
    change = [
        1 - similarity(a, b)
        for a, b in zip(told["input_text"], told["interception_text"], strict=True)
    ]
    told = told.assign(change=change)
    for x, (_, of_pipeline) in enumerate(told.groupby("pipeline")):
        values = of_pipeline["change"].to_numpy()
        ax.plot(
            [x + (n % 9 - min(8, len(values) - 1) / 2) * 0.04 for n in range(len(values))],
            values,
            "o",
            alpha=0.5,
        )
        ax.hlines(values.mean(), x - 0.3, x + 0.3, color="black")
    names = [f"{name}\nn={n}" for name, n in told.groupby("pipeline").size().items()]
    ax.set_xticks(range(len(names)), names)
    ax.set(
        ylim=(-0.05, 1.05),
        ylabel="share of words changed",
        title="What interception did to the texts",
    )
    return ax


def palettes(runs: pd.DataFrame, ax: Axes | None = None, *, colors: int = 6) -> Axes:
    """One strip per picture: its dominant colours, each as wide as its share of the pixels."""
    ax = ax or _axes()
    strips = list(_strips(runs, colors))
    for y, (_, strip) in enumerate(strips):
        ax.imshow(
            strip[None], extent=(0, 1, y + 0.45, y - 0.45), aspect="auto", interpolation="nearest"
        )
    ax.set_yticks(range(len(strips)), [label for label, _ in strips])
    ax.set(
        xlim=(0, 1),
        ylim=(max(1, len(strips)) - 0.5, -0.5),
        xlabel="share of the picture",
        title="Palettes",
    )
    return ax


def palette(data: bytes, colors: int = 6) -> list[tuple[tuple[int, int, int], float]]:
    """The dominant colours of a picture and their shares, the largest first (median cut and k-means
    on the thumbnail).
    """
    small = decode(thumbnail(data)).convert("RGB").quantize(colors, kmeans=2)
    found = small.getpalette() or []
    counts = sorted(((int(n), int(str(at))) for n, at in small.getcolors() or []), reverse=True)
    pixels = small.width * small.height
    return [((found[3 * at], found[3 * at + 1], found[3 * at + 2]), n / pixels) for n, at in counts]


def _strips(runs: pd.DataFrame, colors: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    import numpy as np

    pictures = runs[runs["media_type"].str.startswith("image/", na=False)]
    for row in pictures.to_dict("records"):
        path = Path(str(row["artifact"]))
        named = ArtifactWritten(
            path=path.name, media_type=str(row["media_type"]), sha256=str(row["sha256"]), bytes=0
        )
        data = shown_bytes(path.parent, named)
        if data is None:
            continue
        strip = [color for color, share in palette(data, colors) for _ in range(round(share * 200))]
        yield f"{row['pipeline']} {row['seed']}", np.array(strip, np.uint8)


def _axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as exc:
        raise UsageError(
            "Plots need matplotlib.", hint='Install it: pip install "devpipe-lab[lab]".'
        ) from exc
    ax: Axes = pyplot.subplots(layout="constrained")[1]
    return ax
