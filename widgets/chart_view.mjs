/**
 * One chart of the live board: a canvas with axes, lines, a target and intervention marks; hover or arrow keys read values.
 * Colours come from the page's theme at every drawing, so that a switch of theme needs no more than another drawing.
 */
import { h } from "./dom.mjs";
import { allPositive, extent, label, logTicks, nearest, onLines, points, summary, thinned, ticks, walked, withInterval } from "./curves.mjs";

export const HUES = ["#0a7bc4", "#d55e00", "#009e73", "#c2619c", "#b58500", "#4a9fd8", "#8a6fd1", "#7d7d7d"];
const DASHES = [[], [2, 3], [7, 3], [7, 3, 2, 3]];
const NAMED = 4; // lines that are named beside a title, all of any panel of the lab; the hover names all
const EDGE = { left: 40, right: 10, top: 8, bottom: 20 };

export function chart(panel, store) {
  const canvas = h("canvas", { tabindex: -1, role: "img", class: "lkc-canvas", "aria-description": panel.reading });
  const spoken = h("span", { class: "lk-spoken", "aria-live": "polite" }); // what an arrow key reads
  const key = h("span", { class: "lkc-key" });
  const tip = h("div", { class: "lkc-tip", hidden: true });
  const root = h(
    "figure",
    { class: "lkc-chart", dataset: { panel: panel.key } },
    h("figcaption", { title: panel.reading }, h("span", { class: "lkc-title" }, panel.title), key),
    h("div", { class: "lkc-plot" }, canvas, tip, spoken),
  );
  let marks = [];
  let measured = null; // of a panel whose points are no columns of the curves: what was measured by hand
  let cursor = null;
  let plan = null;

  const draw = () => {
    plan = layout(panel, store, canvas, marks, measured);
    root.hidden = !plan.lines.some((l) => l.role === "live" && l.line.length) && !plan.lines.some((l) => l.line.length);
    if (root.hidden || !plan.width) return;
    paint(canvas, plan, panel, cursor);
    fillKey(key, plan);
    canvas.setAttribute("aria-label", summary(panel.title, plan.lines.filter((l) => l.role === "live")));
    if (cursor !== null) showTip(tip, plan, cursor);
  };
  const point = (step) => {
    cursor = step;
    tip.hidden = step === null;
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    if (plan?.width) point(measured ? onLines(plan.lines, plan.stepAt(event.offsetX)) : Math.round(plan.stepAt(event.offsetX)));
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (move === undefined || !plan?.lines.length) return;
    event.preventDefault();
    point(walked(plan.steps, cursor, move, measured ? plan.lines : null));
    spoken.textContent = [...tip.children].map((row) => row.textContent).join(", ");
  });
  const setMeasured = (found) => {
    if (panel.key === "win_rate") measured = found;
  };
  return { root, draw, setMarks: (found) => (marks = found), setMeasured };
}

/** The charts as one tab stop: the arrow keys up and down go from one to the next, and the one last visited is the stop. */
export function oneStop(grid) {
  const shown = () => [...grid.querySelectorAll(".lkc-chart:not([hidden]) canvas")];
  grid.addEventListener("focusin", ({ target }) => {
    if (target.matches("canvas")) for (const canvas of shown()) canvas.tabIndex = canvas === target ? 0 : -1;
  });
  grid.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = move && shown()[shown().indexOf(event.target) + move];
    if (!move) return;
    event.preventDefault();
    next?.focus();
  });
  return grid;
}

/** Charts come and go: one that is seen stays the tab stop. */
export function keepStop(root) {
  const shown = [...root.querySelectorAll(".lkc-chart:not([hidden]) canvas")];
  if (shown.length && !shown.some((canvas) => canvas.tabIndex === 0)) shown[0].tabIndex = 0;
}

/** Everything that a drawing needs: lines with colour and dash, scales, limits. */
function layout(panel, store, canvas, marks, measured) {
  const curves = store.ordered();
  const main = curves.filter((c) => c.role !== "ghost");
  const several = main.length > 1;
  const lines = measured ? byHand(measured, main, several) : [];
  for (const curve of curves) {
    const hue = curve.role === "ghost" ? null : several ? HUES[hueOf(main, curve)] : null;
    panel.series.forEach(([seriesKey, name], i) => {
      const line = points(curve, store.column(seriesKey));
      if (line.length) lines.push({ line, role: curve.role, curve: curve.name, label: name, hue: hue ?? HUES[i], dash: several ? DASHES[i] : [], stepped: seriesKey.startsWith("knob:") });
    });
  }
  const live = curves.find((c) => c.role === "live");
  const target = panel.target && live ? points(live, store.column(panel.target)) : [];
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const log = panel.log && allPositive(lines.map((l) => l.line));
  const values = lines.flatMap((l) => l.line.flatMap((p) => (measured ? p.slice(1) : p[1])));
  const top = values.reduce((a, b) => Math.max(a, b), 0);
  const near = target.length && target.every((p) => p[1] <= 4 * top);
  if (near) for (const p of target) values.push(p[1]);
  if (panel.level !== null) values.push(panel.level);
  let [low, high] = extent(values, log);
  low = panel.span[0] ?? low;
  high = panel.span[1] ?? high;
  const over = measured ? main.filter((c) => c.count).map((c) => [[c.rows[0]], [c.rows[(c.count - 1) * c.width]]]) : []; // the same steps as the curves
  const all = [...lines.map((l) => l.line), ...over].flatMap((line) => (line.length ? [line[0][0], line.at(-1)[0]] : []));
  const steps = [Math.min(...all, Infinity), Math.max(...all, -Infinity)];
  const first = Number.isFinite(steps[0]) ? steps[0] : 0;
  const span = Math.max(1, steps[1] - first);
  const inner = { w: width - EDGE.left - EDGE.right, h: height - EDGE.top - EDGE.bottom };
  const x = (step) => EDGE.left + ((step - first) / span) * inner.w;
  const y = (value) => EDGE.top + (1 - ((log ? Math.log10(value) : value) - low) / (high - low)) * inner.h;
  const stepAt = (px) => first + ((px - EDGE.left) / inner.w) * span;
  return { lines, target: near ? target : [], width, height, inner, log, low, high, first, last: first + span, steps, x, y, stepAt, marks, several };
}

/** Lines of what was measured by hand, [step, value, low, high] each. One run: a colour for each set of prompts; several: as their curves, the live one on top. */
function byHand(measured, main, several) {
  const lines = measured.map(({ run, label: name, points: line }) => {
    const curve = main.find((c) => c.name === run);
    const set = measured.filter((m) => m.run === run).findIndex((m) => m.points === line);
    const look = several && curve ? { hue: HUES[hueOf(main, curve)], dash: DASHES[set % DASHES.length] } : { hue: HUES[set % HUES.length], dash: [] };
    return { line, role: curve?.role ?? "beside", curve: run, label: name, stepped: false, ...look };
  });
  return lines.sort((a, b) => (a.role === "live") - (b.role === "live"));
}

/** Trunk and branches keep their colour while new ones come: by order of appearance. */
function hueOf(main, curve) {
  return [...main].sort((a, b) => a.id - b.id).indexOf(curve) % HUES.length;
}

function paint(canvas, plan, panel, cursor) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(plan.width * ratio) || canvas.height !== Math.round(plan.height * ratio)) {
    canvas.width = Math.round(plan.width * ratio);
    canvas.height = Math.round(plan.height * ratio);
  }
  const style = getComputedStyle(canvas);
  const ink = { text: style.getPropertyValue("--lk-quiet"), line: style.getPropertyValue("--lk-line"), strong: style.getPropertyValue("--lk-line-strong") };
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, plan.width, plan.height);
  pen.font = `10.5px ${style.fontFamily}`;
  paintAxes(pen, plan, ink);
  if (panel.level !== null) stroke(pen, [[plan.first, panel.level], [plan.last, panel.level]], plan, { color: ink.strong, dash: [1, 3], width: 1 });
  if (plan.target.length) stroke(pen, stepped(plan.target), plan, { color: ink.strong, dash: [6, 4], width: 1.2 });
  paintMarks(pen, plan, ink);
  for (const l of plan.lines) {
    const faint = l.role === "ghost" ? 0.35 : l.role === "live" ? 1 : 0.7;
    stroke(pen, l.stepped ? stepped(l.line) : thinned(l.line, plan.x, plan.inner.w), plan, { color: l.hue, dash: l.role === "ghost" ? [2, 3] : l.dash, width: l.role === "live" ? 1.8 : 1.3, faint });
  }
  for (const l of plan.lines) for (const p of l.line) if (p.length > 2) paintPoint(pen, plan, p, l.hue);
  if (cursor !== null) paintCursor(pen, plan, cursor, ink);
}

/** A value with the bar of its interval. */
function paintPoint(pen, plan, [step, value, low, high], hue) {
  const [x, top, bottom] = [Math.round(plan.x(step)) + 0.5, plan.y(high), plan.y(low)];
  rule(pen, x, top, x, bottom, hue);
  for (const end of [top, bottom]) rule(pen, x - 3, end, x + 3, end, hue);
  pen.fillStyle = hue;
  pen.beginPath();
  pen.arc(x, plan.y(value), 3, 0, 7);
  pen.fill();
}

function paintAxes(pen, plan, ink) {
  const { left, top } = EDGE;
  const bottom = top + plan.inner.h;
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const value of plan.log ? logTicks(plan.low, plan.high) : ticks(plan.low, plan.high, plan.inner.h / 30)) {
    const at = Math.round(plan.y(value)) + 0.5;
    if (at < top - 1 || at > bottom + 1) continue;
    rule(pen, left, at, left + plan.inner.w, at, ink.line);
    pen.fillStyle = ink.text;
    pen.fillText(label(value), left - 5, at);
  }
  rule(pen, left, bottom + 0.5, left + plan.inner.w, bottom + 0.5, ink.strong);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  pen.fillStyle = ink.text;
  for (const step of ticks(plan.first, plan.last, plan.inner.w / 42)) if (Number.isInteger(step)) pen.fillText(label(step), plan.x(step), bottom + 5);
}

function paintMarks(pen, plan, ink) {
  const bottom = EDGE.top + plan.inner.h;
  for (const mark of plan.marks) {
    if (mark.step < plan.first || mark.step > plan.last) continue;
    const at = Math.round(plan.x(mark.step)) + 0.5;
    pen.setLineDash([2, 2]);
    rule(pen, at, EDGE.top, at, bottom, ink.strong);
    pen.setLineDash([]);
    pen.fillStyle = mark.refused ? ink.line : ink.text;
    pen.beginPath();
    pen.moveTo(at, bottom - 6);
    pen.lineTo(at - 4, bottom + 1);
    pen.lineTo(at + 4, bottom + 1);
    pen.fill();
  }
}

function paintCursor(pen, plan, cursor, ink) {
  const at = Math.round(plan.x(cursor)) + 0.5;
  rule(pen, at, EDGE.top, at, EDGE.top + plan.inner.h, ink.text);
  for (const l of plan.lines) {
    const found = l.role === "ghost" ? null : nearest(l.line, cursor);
    if (!found || Math.abs(found[0] - cursor) > 0.5) continue;
    pen.fillStyle = l.hue;
    pen.beginPath();
    pen.arc(plan.x(found[0]), plan.y(found[1]), 3, 0, 7);
    pen.fill();
  }
}

function rule(pen, x0, y0, x1, y1, color) {
  pen.strokeStyle = color;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function stroke(pen, line, plan, { color, dash, width, faint = 1 }) {
  pen.save();
  pen.beginPath();
  pen.rect(EDGE.left - 1, EDGE.top - 2, plan.inner.w + 3, plan.inner.h + 4);
  pen.clip();
  pen.globalAlpha = faint;
  pen.strokeStyle = pen.fillStyle = color;
  pen.lineWidth = width;
  pen.lineJoin = "round";
  pen.setLineDash(dash);
  pen.beginPath();
  line.forEach(([step, value], i) => (i ? pen.lineTo(plan.x(step), plan.y(value)) : pen.moveTo(plan.x(step), plan.y(value))));
  pen.stroke();
  if (line.length === 1) {
    pen.beginPath();
    pen.arc(plan.x(line[0][0]), plan.y(line[0][1]), 2.5, 0, 7);
    pen.fill();
  }
  pen.restore();
}

/** A knob holds its value until the next step. */
function stepped(line) {
  return line.flatMap((p, i) => (i ? [[p[0], line[i - 1][1]], p] : [p]));
}

/** Beside the title: the newest value, or the names of the series where there are several. */
function fillKey(key, plan) {
  const live = plan.lines.filter((l) => l.role === "live").slice(0, NAMED);
  const text = live.map((l) => (live.length > 1 ? l.label : label(l.line.at(-1)[1])));
  const now = JSON.stringify([text, live.map((l) => l.hue), plan.several]);
  if (key.dataset.now === now) return;
  key.dataset.now = now;
  key.replaceChildren(
    ...live.map((l, i) => {
      const dash = plan.several && live.length > 1 ? ["─ ", "┄ ", "╌ "][i % 3] : "";
      const part = h("span", { class: "lkc-value" }, dash + text[i]);
      part.style.setProperty("--hue", l.hue);
      return part;
    }),
  );
}

function showTip(tip, plan, cursor) {
  const rows = [h("div", { class: "lkc-tip-step" }, `step ${cursor}`)];
  for (const l of plan.lines) {
    const found = l.role === "ghost" ? null : nearest(l.line, cursor);
    if (!found || Math.abs(found[0] - cursor) > 0.5) continue;
    const row = h("div", {}, `${plan.several ? `${l.curve}: ` : ""}${l.label} ${withInterval(found)}`);
    row.style.setProperty("--hue", l.hue);
    rows.push(row);
  }
  for (const mark of plan.marks) if (Math.abs(plan.x(mark.step) - plan.x(cursor)) < 5) rows.push(h("div", { class: "lkc-tip-mark" }, mark.text));
  tip.replaceChildren(...rows);
  const at = plan.x(cursor);
  const flip = at > plan.width / 2;
  tip.style.left = flip ? "" : `${at + 8}px`;
  tip.style.right = flip ? `${plan.width - at + 8}px` : "";
}
