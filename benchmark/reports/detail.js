// What a row opens: drawn when it is opened, from the block that the page holds for its detector.

const METRICS = ["AUROC", "AUPRC", "FPR80", "FPR95"];
const SIDES = { id_test: "ID test", id_train: "ID train", ood_test: "OOD test", diagnose: "diagnosed (ID test)" };
const DIAGNOSTICS = {
  bits_per_dim: "bits/dim", bits_per_dim_k: "bits/dim of L>k, k = 0, 1, …",
  nll_bits_per_dim_k: "bits/dim of NLL_k, k = 0, 1, …", kl_nats: "KL per layer, nats",
  active_units: "active units per layer", information_nats: "I(x;z) per layer ≥, nats",
  G_T_nats: "G_T per layer, nats", fitted_G_T_nats: "G_T of a fitted readout, nats", accuracy: "accuracy of the classifier",
  calibration_error: "expected calibration error", images: "images",
};
const COSTS = {
  passes: "passes per image", train_seconds: "training, seconds", members: "fits",
  train_images: "training images", train_images_per_second: "training, images per second",
  parameters: "parameters", ms_per_image: "measuring, ms per image",
  peak_memory_mb: "peak memory, MB", device: "device",
};
const COLLAPSED = 0.01;

const named = (labels, name) => (Object.hasOwn(labels, name) ? labels[name] : name);

function simpleTable(caption, head, rows, name = "plain") {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", { class: name },
      h("caption", { class: "aside" }, caption),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {},
        h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell)))))));
}

const part = (title, ...children) =>
  h("section", {}, h("h3", {}, title), ...children);

const several = (value) => (Array.isArray(value) ? value.map(short).join(" / ") : short(value));

function metricsPart(detail, score) {
  const rows = detail.runs.map((run, i) => {
    const test = run.diagnostics.id_test;
    return [`seed ${run.seed}`,
      ...score.metrics[i].map(([v, low, high]) => `${v.toFixed(1)} [${low.toFixed(1)}, ${high.toFixed(1)}]`),
      test && "bits_per_dim" in test ? test.bits_per_dim.toFixed(3) : "–",
      h("code", {}, run.key.slice(0, 12))];
  });
  const { id, ood } = detail.available || {};
  const remarks = [
    score.oracle && `An oracle: "${score.oracle}" was chosen by its AUROC on these OOD images.`,
    score.members !== 1 && `The score judges groups of ${score.members || "several"} images; the numbers count groups.`,
    id && `Measured: ${count(id)} ID and ${count(ood)} OOD images; compared: ${count(score.n)} ${score.members === 1 ? "images" : "groups"} of each.`,
    `Distinct scores: ${count(score.distinct[0])} ID, ${count(score.distinct[1])} OOD.`,
    ...detail.notes,
  ].filter(Boolean);
  return part("Metrics",
    simpleTable("Metrics by seed, percent, with 95 % intervals over test images",
      ["Run", ...METRICS, "bits/dim ID", "Key"], rows),
    h("ul", { class: "quiet" }, remarks.map((text) => h("li", {}, text))));
}

function figuresPart(score) {
  if (score.problem) return part("Curves", h("p", { class: "note" }, score.problem));
  return part("Curves",
    h("div", { class: "figures" },
      h("figure", {}, rocFigure(score.roc, score.metrics),
        h("figcaption", {}, "ROC; the points are FPR80 and FPR95"
          + (score.roc.length > 1 ? "; first seed thick" : ""))),
      h("figure", {}, densityFigure(score.histogram),
        h("figcaption", {}, "Scores of the compared images"
          + (score.roc.length > 1 ? " of the first seed" : "")
          + "; the far tails are counted in the outermost bins"))));
}

// A map of what every pixel adds to a score, and the KL of the layers as bars, the largest of all (most) as wide.
function mapped([picture, sum, ...kl], name, most) {
  const text = [`sum ${short(sum)}`, kl.length ? `KL ${several(kl)} nats` : ""].filter(Boolean).join(", ");
  return [h("img", { src: `data:image/png;base64,${picture}`, alt: `map of ${name}: ${text}`, title: text }),
    kl.length ? s("svg", { class: "bars", viewBox: `0 0 48 ${4 * kl.length}`, "aria-hidden": "true" },
      kl.map((value, layer) => s("rect", { x: 0, y: 4 * layer, height: 3,
        width: Math.max(0, 48 * value / most) }))) : null];
}

function picturesPart(detail, score) {
  if (!score.pictures || !score.pictures.id) return null;
  const held = embedded("pictures");
  const side = (name, title, set) => {
    const found = score.pictures[name];
    if (found.note) return [h("h4", {}, `${title}: ${set}`), h("p", { class: "note" }, found.note)];
    const maps = (score.pictures.maps || {})[name];
    const most = Math.max(1e-9, ...Object.values(maps || {}).flatMap(([, , ...kl]) => kl));
    const row = (end, what) => h("div", { class: "pictures" }, h("p", {}, what),
      h("ul", {}, found[end].map(([index, value]) => h("li", {},
        h("img", { src: `data:image/png;base64,${held[found.set][index]}`,
          alt: `${title} image ${index}`, title: `image ${index}, score ${value}` }),
        maps ? mapped(maps[index], `${title} image ${index}`, most) : null,
        h("span", {}, short(value))))));
    return [h("h4", {}, `${title}: ${set}`), row("most", "Most OOD"), row("least", "Least OOD")];
  };
  const maps = score.pictures.maps;
  const said = !maps ? "" : maps.note || `Below each image what every pixel adds (${maps.what}), on one scale`
    + ` to ${short(maps.limit)}; the bars are the KL of layers 1, 2, … in nats.`;
  return part("Images by score",
    said ? h("p", { class: "quiet" }, said) : null,
    score.members > 1 ? h("p", { class: "quiet" }, "The first image of each group.") : null,
    h("div", { class: "figures" },
      h("div", {}, side("id", "ID", detail.in_dist)),
      h("div", {}, side("ood", "OOD", detail.ood))));
}

function diagnosticsPart(detail) {
  const found = detail.runs[0].diagnostics;
  const sides = Object.keys(found);
  if (!sides.length) return null;
  const names = [...new Set(sides.flatMap((side) => Object.keys(found[side])))];
  const known = Object.keys(DIAGNOSTICS);
  const place = (name) => (known.includes(name) ? known.indexOf(name) : known.length);
  names.sort((a, b) => place(a) - place(b));
  const rows = names.map((name) => [named(DIAGNOSTICS, name),
    ...sides.map((side) => (name in found[side] ? several(found[side][name]) : "–"))]);
  const kl = (found.id_test || {}).kl_nats || [];
  const dead = kl.flatMap((value, i) => (value < COLLAPSED ? [i + 1] : []));
  return part("Diagnostics" + (detail.runs.length > 1 ? " of the first seed" : ""),
    dead.length ? h("p", { class: "note" }, `Collapsed (KL below ${COLLAPSED} nats): layer ${dead.join(", ")}.`
      + " What is built on it means nothing.") : null,
    simpleTable("Diagnostics of the model", ["Quantity", ...sides.map((side) => named(SIDES, side))], rows));
}

function costPart(detail) {
  const names = Object.keys(COSTS).filter((name) => (detail.cost[name] ?? "") !== "");
  return part("Cost", h("dl", {}, names.map((name) => h("div", {},
    h("dt", {}, COSTS[name]), h("dd", {}, short(detail.cost[name]))))));
}

function provenancePart(detail) {
  const { entries, machines } = embedded("steps");
  const keys = [...new Set(detail.runs.flatMap((run) => run.steps))];
  const used = [...new Set(keys.map((key) => entries[key].machine).filter((m) => m !== undefined))];
  const rows = keys.map((key) => {
    const step = entries[key];
    const seed = step.parts && "seed" in step.parts ? step.parts.seed : "–";
    if (step.missing) return [step.stage, h("code", {}, key.slice(0, 12)), "not in the store any more", "", "", ""];
    return [step.stage, h("code", {}, key.slice(0, 12)), String(seed), step.created,
      step.seconds === undefined ? "–" : `${short(step.seconds)} s`,
      step.machine === undefined ? "–" : String(used.indexOf(step.machine) + 1)];
  });
  const settings = keys.filter((key) => entries[key].stage !== "score" && entries[key].parts);
  const about = [["detector", detail.detector], ["source", detail.cite], ["category", detail.category],
    ["recipe", [detail.recipe, detail.scale, detail.variant].filter(Boolean).join(", ")],
    ["configuration", detail.configuration.slice(0, 12)]].filter(([, text]) => text);
  return part("Provenance",
    h("dl", {}, about.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
    simpleTable("Entries of the store behind these numbers",
      ["Step", "Key", "Seed", "Made", "Time", "Machine"], rows),
    used.length ? simpleTable("Machines", ["Machine", "Device, versions, commit"],
      used.map((number, i) => [String(i + 1),
        Object.entries(machines[number]).map(([name, value]) => `${name} ${value}`).join(" · ")])) : null,
    settings.map((key) => h("details", {},
      h("summary", {}, `Settings of ${entries[key].stage} `, h("code", {}, key.slice(0, 12))),
      h("pre", { tabindex: "0" }, JSON.stringify(entries[key].parts, null, 1)))));
}

function detailParts(detail, name) {
  const score = detail.scores[name];
  return [metricsPart(detail, score), figuresPart(score), picturesPart(detail, score),
    diagnosticsPart(detail), costPart(detail), provenancePart(detail)].filter(Boolean);
}
