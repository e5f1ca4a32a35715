"""A bundle's card, as Markdown and as one HTML page without anything from elsewhere: what it is, how good, where not.

Pure: manifest, report and pictures in, text out. What a published card shows is synthetic throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from models.manifest import ClassifierManifest, Manifest, Metric
from training import plots
from training.bars import MEANINGS, bar_in_words
from training.pictures import Pictures, grid, webp
from training.report import DOMAIN, Metrics, Report, Strip

THUMB_PX = 128  # pictures of larger spaces are shown in this size
SHEET_COLUMNS = 12
LIMIT_BYTES = 1_500_000


def card_markdown(manifest: Manifest, report: Report) -> str:
    """The card as Markdown: one table of all figures, missed bars named."""
    p, figures = manifest.provenance, report.figures(manifest.kind)
    lines = [
        f"# {manifest.title} ({manifest.id}/{manifest.version})",
        "",
        f"**{p.intended_use}**",
        "",
        origin(manifest),
        "",
        f"Licence of the data: {p.licence}. {p.attribution}",
        "",
        "## Figures",
        "",
        f"Test split only; 95 % intervals by bootstrap over patients. Code {p.code_version}, config "
        f"{p.config_sha256[:12]}. The same with pictures and plots: `card.html`.",
        "",
        "| figure | value | 95 % | n | bar | |",
        "|---|---|---|---|---|---|",
        *(figure_row(name, figures[name]) for name in sorted(figures)),
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in report.notes),
        "",
    ]
    return "\n".join(lines)


def figure_row(name: str, metric: Metric) -> str:
    """One line of the Markdown table; a missed bar says so."""
    verdict = {None: "", True: "met", False: "**missed**"}[metric.met]
    cells = (f"`{name}`: {MEANINGS.get(name, '')}", *numbers(name, metric), verdict)
    return f"| {' | '.join(cells)} |"


def numbers(name: str, metric: Metric) -> tuple[str, str, str, str]:
    """Value, interval, n and bar of a figure, in words."""
    interval = "" if metric.ci95 is None else f"{metric.ci95[0]:.3f} to {metric.ci95[1]:.3f}"
    return f"{metric.value:.3f}", interval, str(metric.n or ""), bar_in_words(name, metric)


def origin(manifest: Manifest) -> str:
    """On what the bundle was trained, where, and for how long."""
    p = manifest.provenance
    kimg = "" if p.kimg is None else f" The generator saw {p.kimg:.0f},000 images."
    trained = f"Trained on {p.images:,} images" if p.images else "Trained on"  # of a black box it may not be known
    return f"{trained}: {p.dataset}.{kimg} Hardware: {p.hardware}, {p.hours:.1f} h."


def card_html(manifest: Manifest, report: Report, pictures: Pictures, *, real: bool = False) -> str:
    """The card as one page of HTML.

    Args:
        manifest: of the space, or of the classifier.
        report: of both.
        pictures: what is shown.
        real: the pictures show real patients' images; the page then says that it must not be passed on.
    """
    style = files("training").joinpath("pages", "card.css").read_text()
    parts = classifier_parts(manifest, report, pictures) if isinstance(manifest, ClassifierManifest) else ""
    title = f"{escape(manifest.title)} ({manifest.id}/{manifest.version})"
    warning = '<p class="warning">This page shows real images. It stays in the run folder: do not pass it on.</p>'
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{style}</style>",
            "<main>",
            warning if real else "",
            f"<h1>{escape(manifest.title)}</h1>",
            f'<p class="quiet">{manifest.kind} {manifest.id}, version {manifest.version}</p>',
            f'<p class="use">{escape(manifest.provenance.intended_use)}</p>',
            summary(report.figures(manifest.kind)),
            parts or space_parts(report, pictures, real),
            section("All figures", figures_table(report.figures(manifest.kind))),
            section("Notes", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>"),
            section("Data, licence, origin", data_part(manifest)),
            "</main>",
            "</html>",
            "",
        ]
    )


def section(title: str, *content: str) -> str:
    """A heading with what stands under it; nothing where there is nothing to say."""
    body = "\n".join(part for part in content if part)
    return f"<h2>{title}</h2>\n{body}" if body else ""


def summary(figures: Metrics) -> str:
    """How many bars are met, and each one that is missed by name."""
    held = {name: metric for name, metric in figures.items() if metric.met is not None}
    missed = [
        f'<code>{name}</code> {metric.value:.3f} <span class="quiet">(bar {bar_in_words(name, metric)})</span>'
        for name, metric in sorted(held.items())
        if not metric.met
    ]
    met = f"Bars met: {len(held) - len(missed)} of {len(held)}."
    if not missed:
        return f'<p class="met">{met}</p>' if held else ""
    return f'<p>{met} <span class="missed">Missed:</span> {", ".join(missed)}.</p>'


def space_parts(report: Report, pictures: Pictures, real: bool) -> str:
    """What only a space's card shows: samples, reconstructions, and how the training went."""
    originals = "Real test images" if real else "Generated images"
    curve = report.curves.get("training") or []
    told = (
        figure(
            plots.training(curve),
            "Measured at snapshots while the generator was trained. Lower FID is better; recall is the share of real "
            "images that the generator could have drawn.",
        )
        if curve
        else '<p class="quiet">This training logged no FID and recall on its way.</p>'
    )
    return "\n".join(
        [
            section(
                "What it draws",
                sheet(pictures.samples, SHEET_COLUMNS, "Generated images"),
                f'<p class="quiet">{len(pictures.samples)} images drawn at random (ψ = 1), none chosen.</p>',
            ),
            section(
                "What a reconstruction keeps",
                pairs(pictures.originals, pictures.reconstructed),
                f'<p class="quiet">{originals}; right of each, what encoder and generator make of it.</p>',
            ),
            section("How the training went", told),
        ]
    )


def pairs(first: np.ndarray, second: np.ndarray) -> str:
    """Pictures of pairs of images, uint8 [N, C, S, S] each, side by side."""
    both = np.stack([thumbs(first), thumbs(second)], axis=1)
    cells = (cell("pair", grid(pair, 2), "", "image and reconstruction") for pair in both)
    return f'<div class="pairs">{"".join(cells)}</div>'


def classifier_parts(manifest: ClassifierManifest, report: Report, pictures: Pictures) -> str:
    """What only a classifier's card shows: strips, plots, the walk's change, audits, classes and directions."""
    aim, curves = manifest.aim("main"), report.curves
    return "\n".join(
        [
            section("Strips", strips_text(manifest), *strips(pictures, report.strips)),
            section("How far to rely on it", '<div class="plots">', *plot_figures(report, aim.threshold), "</div>"),
            section("What the walk changes in an image", change_part(curves["change"])) if "change" in curves else "",
            section("Audits", audits_part(report)),
            section("By true class, and by the side that the classifier starts on", by_class_table(report.by_class)),
            *(
                section(f"Direction {escape(name)}", direction_text(manifest, name), figures_table(found))
                for name, found in report.directions.items()
            ),
        ]
    )


def strips_text(manifest: ClassifierManifest) -> str:
    """What the strips show."""
    target = escape(manifest.aim("main").target.name)
    return (
        f"<p>From left to right the classifier's probability of <em>{target}</em> rises. Leftmost stands the input. "
        "Under each frame is the classifier's own answer on exactly these pixels; the framed one is the nearest on "
        "which it decides otherwise. The inputs are picked by its answer alone, whether their strips turn out well "
        "or not.</p>"
    )


def strips(pictures: Pictures, told: Iterable[Strip]) -> Iterable[str]:
    """Each strip as a row of pictures with the classifier's answers below."""
    for strip, pixels, frames in zip(told, thumbs(pictures.inputs), map(thumbs, pictures.strips), strict=True):
        answer = f"input<br>{strip.input_probability:.2f}"
        cells = [cell("input", grid(pixels[None], 1), answer, "the input"), "<div></div>"]
        for i, (frame, p) in enumerate(zip(frames, strip.probabilities, strict=True)):
            start = "<br>start" if strip.asked[i] is None else ""
            kind = "flip" if i == strip.flip else "frame"
            cells.append(cell(kind, grid(frame[None], 1), f"{p:.2f}{start}", f"frame with probability {p:.2f}"))
        columns = f"1fr 4px repeat({len(frames)}, 1fr)"
        yield f'<div class="strip" style="grid-template-columns: {columns}">{"".join(cells)}</div>'


def cell(kind: str, pixels: np.ndarray, text: str, meaning: str) -> str:
    """One picture, uint8 [H, W] or [H, W, 3], with its caption."""
    address = plots.data_uri(webp(pixels), "webp")
    return f'<div class="{kind}"><img src="{address}" alt="{meaning}">{text}</div>'


def plot_figures(report: Report, threshold: float) -> Iterable[str]:
    """The plots of a classifier's card, those whose data is there."""
    curves = report.curves
    if curve := curves.get("asked_against_delivered"):
        yield figure(
            plots.reliability(curve),
            "Asked against delivered: what the classifier says on the frame that was delivered for an asked "
            "probability, mean and middle eighty per cent of the test images. On the dashed line every wish is met.",
        )
    if curve := curves.get("along_the_walk"):
        yield figure(
            plots.along(curve),
            "Along the walk of the test images, from one end of the strip to the other: median and the middle eighty "
            "per cent of the classifier's answers.",
        )
    if report.strips:
        yield figure(
            plots.strip_curves(report.strips, threshold),
            "λ against probability for the strips above: points and lines the classifier, dotted its surrogate; red "
            "starts as yes, blue as no.",
        )
    if curve := curves.get("surrogate_against_classifier"):
        yield figure(
            plots.surrogate_scatter(curve),
            f"Surrogate against classifier on {len(curve['surrogate'])} freshly drawn images. On the dashed line the "
            "surrogate would know the classifier's mind.",
        )


def change_part(change: dict[str, Any]) -> str:
    """Where a walk from end to end changes the image, on average."""
    low, high = change["brightness"]["ci95"]
    rows = "".join(
        f"<tr><td>{name}</td><td>{at['area']:.0%}</td><td>{at['change']:.0%}</td></tr>"
        for name, at in change["regions"].items()
    )
    picture = plots.data_uri(plots.change_map(change["map"]), "png")
    return (
        f'<div class="beside"><figure><img class="map" src="{picture}" alt="Map of the mean change">'
        "<figcaption>Red grows brighter, blue darker.</figcaption></figure>"
        "<div><p>Last frame less first, averaged over the test images. A change that lies where no finding of the "
        "target can lie, or is one of brightness alone, points to a shortcut of the classifier.</p>"
        f"<p>Mean brightness changes by {change['brightness']['value']:+.3f} of the range "
        f"({low:+.3f} to {high:+.3f}).</p>"
        f"<table><tr><th>place</th><th>of the image</th><th>of the change</th></tr>{rows}</table></div></div>"
    )


def audits_part(report: Report) -> str:
    """What the audits found, or that they have not been made."""
    if not report.audits:
        return '<p class="quiet">Not made: <code>python -m training audit</code>.</p>'
    parts = []
    if cues := report.audits.get("planted_cue"):
        rows = "".join(
            f"<tr><td>{escape(t['planted'])}</td><td>{escape(', '.join(t['named']) or 'nothing')}</td>"
            f'<td class="{"met" if t["right"] else "missed"}">{"right" if t["right"] else "wrong"}</td></tr>'
            for t in cues["trials"]
        )
        plain = escape(cues.get("plain", DOMAIN))
        parts.append(
            "<p>Can the audit find a shortcut? Small classifiers learned images of which one class carried a cue; then "
            f"each was asked about a library of probes, and so was {plain}, in which nothing was planted.</p>"
            f"<table><tr><th>planted</th><th>the audit names</th><th></th></tr>{rows}</table>"
        )
    if own := report.audits.get("classifier"):
        named = ", ".join(own["named"]) or "none"
        parts.append(f"<p>The same probes on this classifier. Named: <strong>{escape(named)}</strong>.</p>")
        answers = own["answers"]
        drawn = plots.probes([a["probe"] for a in answers], [a["strength"] for a in answers], 1.0)
        parts.append(figure(drawn, own["explanation"]))
    if shuffled := report.audits.get("random_label_auc"):
        each = ", ".join(f"{value:.3f}" for value in shuffled["each"])
        parts.append(
            f"<p>The same pipeline on classifiers that learned shuffled labels: AUC {each} of their surrogates against "
            "the truth. Near a half, as it must be, nothing leaks from the labels past the classifier.</p>"
        )
    return "\n".join(parts)


def by_class_table(tables: dict[str, Metrics]) -> str:
    """Figures of the images of each class alone."""
    if not tables:
        return ""
    names = list(next(iter(tables.values())))
    head = "".join(f"<th><code>{name}</code></th>" for name in names)
    rows = []
    for group, found in tables.items():
        n = max((metric.n or 0 for metric in found.values()), default=0)
        cells = "".join(
            f"<td>{value_with_interval(found[name])}</td>" if name in found else "<td></td>" for name in names
        )
        rows.append(f"<tr><td>{escape(group)}<span>{n} images</span></td>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def value_with_interval(metric: Metric) -> str:
    """A value, its interval below."""
    interval = (
        "" if metric.ci95 is None else f"<br><span class='quiet'>{metric.ci95[0]:.2f} to {metric.ci95[1]:.2f}</span>"
    )
    return f"{metric.value:.3f}{interval}"


def direction_text(manifest: ClassifierManifest, name: str) -> str:
    """What a direction beside main is to change."""
    aim = manifest.aim(name)
    classes = ", ".join(escape(manifest.classes[k]) for k in aim.target.classes)
    if aim.kind == "expected_grade":
        return f"<p>Moves the expected grade over {classes}, as a share of the scale.</p>"
    against = aim.target.against
    other = "all others" if against is None else ", ".join(escape(manifest.classes[k]) for k in against)
    return f"<p>Moves the probability of {classes} against {other}.</p>"


def figures_table(figures: Metrics) -> str:
    """Every figure with interval, n and bar; a missed bar says so."""
    rows = []
    for name in sorted(figures):
        verdict = {None: "<td></td>", True: '<td class="met">met</td>', False: '<td class="missed">missed</td>'}
        cells = "".join(f"<td>{text}</td>" for text in numbers(name, figures[name]))
        meaning = f"<span>{escape(MEANINGS.get(name, ''))}</span>"
        rows.append(f"<tr><td><code>{name}</code>{meaning}</td>{cells}{verdict[figures[name].met]}</tr>")
    head = "<tr><th>figure</th><th>value</th><th>95 %</th><th>n</th><th>bar</th><th></th></tr>"
    note = '<p class="quiet">Test split only. Intervals by drawing patients, not images.</p>'
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>{note}'


def data_part(manifest: Manifest) -> str:
    """Data, licence, attribution, and what made the bundle."""
    p = manifest.provenance
    lines = [
        origin(manifest),
        f"Licence of the data: {p.licence}.",
        p.attribution,
        f"Code {p.code_version}, config {p.config_sha256[:12]}.",
    ]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def figure(content: str, caption: str) -> str:
    """A plot with its caption."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def sheet(images: np.ndarray, columns: int, meaning: str) -> str:
    """Images uint8 [N, C, S, S] as one picture."""
    address = plots.data_uri(webp(grid(thumbs(images), columns, gap=2), quality=85), "webp")
    return f'<img class="sheet" src="{address}" alt="{meaning}">'


def thumbs(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, C, S, S] in at most 128 px."""
    if images.shape[-1] <= THUMB_PX:
        return images
    size = (THUMB_PX, THUMB_PX)
    channels = images.reshape(-1, *images.shape[-2:])
    small = [np.asarray(Image.fromarray(c).resize(size, Image.Resampling.LANCZOS)) for c in channels]
    return np.stack(small).reshape(*images.shape[:2], *size)
