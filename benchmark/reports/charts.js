// The two figures of a detail, drawn as SVG from what is embedded.

const WIDTH = 420, HEIGHT = 330, LEFT = 54, RIGHT = 24, TOP = 12, BOTTOM = 46;

const scaled = (low, high, from, to) => (value) =>
  from + ((value - low) / (high - low)) * (to - from);

// About `wanted` round numbers between two others.
function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)) + 0); // no -0
}

function axes(x, y, xTicks, yTicks, xLabel, yLabel) {
  const [left, right, low, high] = [LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP];
  return s("g", { class: "axes" },
    xTicks.map((v) => [
      s("line", { x1: x(v), x2: x(v), y1: low, y2: high, class: "grid" }),
      s("text", { x: x(v), y: low + 16, "text-anchor": "middle" }, short(v)),
    ]),
    yTicks.map((v) => [
      s("line", { x1: left, x2: right, y1: y(v), y2: y(v), class: "grid" }),
      s("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, short(v)),
    ]),
    s("rect", { x: left, y: high, width: right - left, height: low - high, class: "frame" }),
    s("text", { x: (left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, xLabel),
    s("text", { x: 0, y: 0, "text-anchor": "middle",
      transform: `translate(13 ${(low + high) / 2}) rotate(-90)` }, yLabel));
}

const figure = (label, ...parts) =>
  s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, ...parts);

function key(entries, x, y) {
  return s("g", { class: "key" }, entries.map(([name, text], i) => [
    s("line", { x1: x, x2: x + 22, y1: y + 18 * i, y2: y + 18 * i, class: name }),
    s("text", { x: x + 28, y: y + 4 + 18 * i }, text),
  ]));
}

// `curves`: one [x, y, x, y, …] in thousandths per seed; `metrics`: their numbers in percent.
function rocFigure(curves, metrics) {
  const x = scaled(0, 1, LEFT, WIDTH - RIGHT), y = scaled(0, 1, HEIGHT - BOTTOM, TOP);
  const steps = ticks(0, 1);
  const path = (curve) => "M" + Array.from({ length: curve.length / 2 }, (_, i) =>
    `${x(curve[2 * i] / 1000).toFixed(1)} ${y(curve[2 * i + 1] / 1000).toFixed(1)}`).join("L");
  const [auroc, , fpr80, fpr95] = metrics[0];
  const points = [[fpr80, 80], [fpr95, 95]].map(([fpr, tpr]) => s("g", {},
    s("circle", { cx: x(fpr[0] / 100), cy: y(tpr / 100), r: 4, class: "point" }),
    s("title", {}, `FPR${tpr}: ${fpr[0].toFixed(1)} %`)));
  const others = curves.length > 1 ? [["curve other", "other seeds"]] : [];
  return figure(
    `ROC curve, AUROC ${auroc[0].toFixed(1)}; false-positive rate ${fpr80[0].toFixed(1)} % at 80 %`
      + ` and ${fpr95[0].toFixed(1)} % at 95 % of the OOD images found`,
    axes(x, y, steps, steps, "false-positive rate (ID called OOD)",
      "true-positive rate (OOD found)"),
    s("path", { d: path([0, 0, 1000, 1000]), class: "chance" }),
    curves.slice(1).map((curve) => s("path", { d: path(curve), class: "curve other" })),
    s("path", { d: path(curves[0]), class: "curve" }),
    points,
    key([["curve", `AUROC ${auroc[0].toFixed(1)}`], ...others, ["chance", "chance"]],
      WIDTH - 150, HEIGHT - BOTTOM - 20 - 18 * (1 + others.length)));
}

function densityFigure({ low, high, id, ood }) {
  const total = id.reduce((sum, value) => sum + value, 0);
  const top = 1.08 * Math.max(...id, ...ood) / total;
  const x = scaled(low, high, LEFT, WIDTH - RIGHT), y = scaled(0, top, HEIGHT - BOTTOM, TOP);
  const edge = scaled(0, id.length, LEFT, WIDTH - RIGHT);
  const outline = (counts) => `M${LEFT} ${y(0)}` + counts.map((value, i) => {
    const height = y(value / total).toFixed(1);
    return `L${edge(i).toFixed(1)} ${height}L${edge(i + 1).toFixed(1)} ${height}`;
  }).join("") + `L${WIDTH - RIGHT} ${y(0)}Z`;
  return figure(
    `Densities of the score: ID images around ${short(Number(middle(low, high, id)))}, OOD images`
      + ` around ${short(Number(middle(low, high, ood)))} (medians)`,
    axes(x, y, ticks(low, high), ticks(0, top, 4), "score (higher = more OOD)",
      "share of images"),
    s("path", { d: outline(id), class: "id" }),
    s("path", { d: outline(ood), class: "ood" }),
    key([["id", "ID"], ["ood", "OOD"]], WIDTH - RIGHT - 66, TOP + 16));
}

// The median of binned scores, to the middle of its bin.
function middle(low, high, counts) {
  const half = counts.reduce((sum, value) => sum + value, 0) / 2;
  let seen = 0;
  const bin = counts.findIndex((value) => (seen += value) >= half);
  return (low + ((bin + 0.5) * (high - low)) / counts.length).toPrecision(4);
}
