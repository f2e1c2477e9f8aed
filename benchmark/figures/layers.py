"""Figures of the layers of a hierarchical VAE: AUROC by k, KL per layer, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from oodbench.figures.style import (
    COLOURS,
    DASHES,
    GREY,
    ID_COLOUR,
    MARKERS,
    OOD_COLOUR,
    TEXT_WIDTH,
    legend_below,
    legend_height,
    line_styles,
    panels,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Below this many nats the axis of KL is linear: a layer there says nothing.
LINEAR_NATS = 0.1
#: Inches for text over one of two panels side by side.
PANEL = 2.9


@dataclass(frozen=True)
class ByK:
    """AUROC in percent of one family of scores of a model: `k`, value, low, high, (m,) each."""

    model: str
    family: str
    k: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@styled
def auroc_by_k_figure(shown: Sequence[tuple[str, Sequence[ByK]]]) -> Figure:
    """One panel per pair, (title, families): AUROC against k, with intervals and chance level."""
    lines = max(legend_height(_by_k_label(one) for one in families) for _, families in shown)
    figure, axes = panels(len(shown), height=2.8 + lines, columns=2)
    styles = line_styles(one.model for _, families in shown for one in families)
    for ax, (title, families) in zip(axes, shown, strict=True):
        ax.axhline(50, color=GREY, linewidth=0.7, zorder=1)
        models = list(dict.fromkeys(one.model for one in families))
        kinds = list(dict.fromkeys(one.family for one in families))
        for one in families:
            i, dashes = models.index(one.model), DASHES[kinds.index(one.family) % len(DASHES)]
            k = one.k + 0.04 * (i - (len(models) - 1) / 2)
            colour = styles[one.model][0] if len(models) > len(COLOURS) else COLOURS[i]
            ax.plot(k, one.value, color=colour, linestyle=dashes, marker=MARKERS[i % len(MARKERS)],
                    label=_by_k_label(one))  # fmt: skip
            ax.errorbar(k, one.value, [one.value - one.low, one.high - one.value], fmt="none",
                        color=colour, capsize=3, elinewidth=0.9)  # fmt: skip
        last = int(max(one.k.max() for one in families))
        ax.set(title=wrapped(title, PANEL, 8), xlabel="k", ylabel="AUROC, %",
               xticks=range(last + 1), ylim=(0, 102), xlim=(-0.25, last + 0.25))  # fmt: skip
        legend_below(ax)
    return figure


def _by_k_label(one: ByK) -> str:
    return wrapped(f"{one.model} {one.family}", 2.4)


@dataclass(frozen=True)
class LayerKL:
    """KL_l of every image in nats, (n, L), for the ID and the OOD images of one model."""

    title: str
    id_kl: np.ndarray
    ood_kl: np.ndarray


@styled
def kl_figure(shown: Sequence[LayerKL]) -> Figure:
    """One panel per model: the mean KL of every layer, bars from the 5th to the 95th percentile.

    The axis is logarithmic, and linear below `LINEAR_NATS` where an estimate reaches there.
    """
    figure, axes = panels(len(shown), height=2.7, columns=2)
    sides = [kl for one in shown for kl in (one.id_kl, one.ood_kl)]
    reach = min(min(np.quantile(kl, 0.05, axis=0).min(), kl.mean(0).min()) for kl in sides)
    for ax, one in zip(axes, shown, strict=True):
        layers = np.arange(1, one.id_kl.shape[1] + 1)
        for kl, label, colour, marker, shift in (
            (one.id_kl, "ID", ID_COLOUR, "o", -0.09),
            (one.ood_kl, "OOD", OOD_COLOUR, "s", 0.09),
        ):
            low, high = np.quantile(kl, [0.05, 0.95], axis=0)
            ax.vlines(layers + shift, low, high, color=colour, linewidth=1.4)
            ax.plot(layers + shift, kl.mean(0), linestyle="none", marker=marker, color=colour,
                    markerfacecolor="white" if label == "OOD" else colour, label=label)  # fmt: skip
        if ax is not axes[0]:
            ax.sharey(axes[0])
        nats_scale(ax, reach)
        ax.set(title=wrapped(one.title, PANEL, 8), xlabel="Layer", ylabel="KL, nats per image",
               xticks=layers, xlim=(0.5, len(layers) + 0.5))  # fmt: skip
    axes[0].legend(loc="best", title="mean, 5–95 %")
    return figure


def nats_scale(ax: Axes, reach: float) -> None:
    """Logarithmic; linear around 0, which is marked, where values `reach` below `LINEAR_NATS`."""
    if reach >= LINEAR_NATS:
        ax.set_yscale("log")
    else:
        ax.set_yscale("symlog", linthresh=LINEAR_NATS)
        ax.axhline(0, color=GREY, linewidth=0.5, zorder=0)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


@dataclass(frozen=True)
class TrainingLog:
    """Columns of a fit's log.csv, (epochs,) each, under the name of the model."""

    label: str
    columns: Mapping[str, np.ndarray]

    @property
    def layers(self) -> list[np.ndarray]:
        """KL of layer 1, 2, …, nats per image; empty for a model without layers."""
        kls, index = list[np.ndarray](), 1
        while f"kl_{index}" in self.columns:
            kls.append(self.columns[f"kl_{index}"])
            index += 1
        return kls


@styled
def training_figure(logs: Sequence[TrainingLog]) -> Figure:
    """Bits/dim of the training images by epoch, then a panel per hierarchical model with its KLs.

    Fits of one label (other seeds) share a colour.
    """
    labels = list(dict.fromkeys(log.label for log in logs))
    layered = [label for label in labels if any(g.layers for g in logs if g.label == label)]
    shown = {label: wrapped(label, 2.6) for label in labels}
    figure, axes = panels(1 + len(layered), height=2.4, columns=3)
    width, height = figure.get_size_inches()
    columns = 2 if len(labels) > 1 and width == TEXT_WIDTH else 1
    figure.set_size_inches(width, height + 0.1 + legend_height(shown.values()) / columns)
    _bits(axes[0], logs, shown)
    for ax, label in zip(axes[1:], layered, strict=True):
        for seen, log in enumerate(log for log in logs if log.label == label):
            for i, kl in enumerate(log.layers):
                ax.plot(log.columns["epoch"], kl, color=COLOURS[i % len(COLOURS)],
                        linestyle=DASHES[i % len(DASHES)], marker=MARKERS[i % len(MARKERS)],
                        markersize=2.5, label=None if seen else f"layer {i + 1}")  # fmt: skip
        nats_scale(ax, min(kl.min() for g in logs if g.label == label for kl in g.layers))
        ax.set(title=wrapped(label, 1.8, 8), xlabel="Epoch", ylabel="KL, nats per image")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.legend(loc="best")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure


def _bits(ax: Axes, logs: Sequence[TrainingLog], labels: Mapping[str, str]) -> None:
    """`bits_per_dim` of every log that has it, else its loss, on a logarithmic axis."""
    seen = set[str]()
    has_bits = all("bits_per_dim" in log.columns for log in logs)
    styles = line_styles(labels)
    for log in logs:
        colour, dashes = styles[log.label]
        ax.plot(log.columns["epoch"], log.columns["bits_per_dim" if has_bits else "loss"],
                color=colour, linestyle=dashes,
                label=None if log.label in seen else labels[log.label])  # fmt: skip
        seen.add(log.label)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set(title="Training images", xlabel="Epoch", ylabel="Bits per dimension" if has_bits else
           "Loss, nats per image")  # fmt: skip
    if has_bits:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
