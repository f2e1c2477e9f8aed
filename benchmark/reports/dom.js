// Small helpers; text reaches the page as text alone, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return node;
}

const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

const byId = (id) => document.getElementById(id);

const embedded = (id) => JSON.parse(byId(id).textContent);

// Everything embedded after this script is there once the document has been read.
function whenRead(action) {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", action);
  else action();
}

// Texts in a line, each with a direction of its own.
const dotted = (texts) =>
  texts.filter(Boolean).flatMap((text, i) => [i ? " · " : "", h("bdi", {}, text)]);

const count = (value) => value.toLocaleString("en");

function short(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return count(value);
  const size = Math.abs(value);
  if (size >= 1000) return count(Math.round(value));
  return size >= 0.01 ? String(Number(value.toPrecision(4))) : value.toExponential(1);
}
