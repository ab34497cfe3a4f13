/**
 * Pure logic of the live curves: packets of float32 rows become curves, curves become points on a chart.
 * A row is the step's number and one value per series key; NaN is "not measured".
 */

/** The curves of a board, by id, and the series keys that name their columns. */
export class CurveStore {
  constructor() {
    this.keys = [];
    this.curves = new Map();
  }

  /** Take one packet; returns false when rows are missing in between and the board must ask for everything. */
  take(head, buffer) {
    if (head.kind === "clear") {
      this.keys = head.keys;
      this.curves.clear();
      return true;
    }
    if (head.kind === "drop") {
      this.curves.delete(head.id);
      return true;
    }
    const curve = this.curves.get(head.id) ?? { id: head.id, width: head.width, count: 0, rows: new Float32Array(64 * head.width) };
    if (head.start > curve.count) return false;
    const fresh = floats(buffer);
    curve.rows = grown(curve.rows, head.count * head.width);
    curve.rows.set(fresh, head.start * head.width);
    Object.assign(curve, { name: head.name, role: head.role, count: head.count });
    this.curves.set(head.id, curve);
    return true;
  }

  /** Curves in drawing order: what matters most comes last, on top. */
  ordered() {
    const order = { ghost: 0, beside: 1, trunk: 2, live: 3 };
    return [...this.curves.values()].sort((a, b) => order[a.role] - order[b.role] || a.id - b.id);
  }

  column(key) {
    return 1 + this.keys.indexOf(key);
  }
}

function floats(buffer) {
  if (!buffer || !buffer.byteLength) return new Float32Array(0);
  const view = buffer instanceof ArrayBuffer ? new Uint8Array(buffer) : new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  return new Float32Array(view.slice().buffer); // a copy is aligned, whatever the transport did
}

function grown(rows, size) {
  if (size <= rows.length) return rows;
  const larger = new Float32Array(Math.max(size, 2 * rows.length));
  larger.set(rows);
  return larger;
}

/** Steps and values of one column, without what was not measured. */
export function points(curve, column) {
  const found = [];
  for (let i = 0; i < curve.count; i++) {
    const value = curve.rows[i * curve.width + column];
    if (Number.isFinite(value)) found.push([curve.rows[i * curve.width], value]);
  }
  return found;
}

/** Lowest and highest of the values, with some air; never an empty span. */
export function extent(values, log = false) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    const v = log ? Math.log10(value) : value;
    if (!Number.isFinite(v)) continue;
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (low > high) return [0, 1];
  const air = 0.08 * (high - low) || 0.1 * Math.abs(high) || (log ? 0.3 : 0.1);
  return [low - air, high + air];
}

/** Round numbers inside [low, high], about `count` of them, and two at least: a scale with one number says nothing. */
export function ticks(low, high, count = 4) {
  const raw = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = [10, 5, 2, 1, 0.5, 0.2].map((m) => m * power);
  const coarsest = steps.findLastIndex((step) => step >= raw * 0.999);
  const found = steps.slice(coarsest).map((step) => multiples(low, high, step));
  return found.find((some) => some.length > 1) ?? found.at(-1);
}

function multiples(low, high, step) {
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** Ticks of a log axis between exponents low and high: 1, 2, 5 of each decade, whole decades when there are many, any round numbers in a narrow span. */
export function logTicks(low, high) {
  const found = [];
  const fine = high - low < 2.2 ? [1, 2, 5] : [1];
  const skip = Math.max(1, Math.ceil((high - low) / 5));
  for (let e = Math.floor(low); e <= Math.ceil(high); e++) {
    if (fine.length === 1 && e % skip) continue;
    for (const m of fine) {
      const exponent = e + Math.log10(m);
      if (exponent >= low && exponent <= high) found.push(Number((m * 10 ** e).toPrecision(6)));
    }
  }
  return found.length > 1 ? found : ticks(10 ** low, 10 ** high, 3);
}

/** A short label for a tick or a value. */
export function label(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

/**
 * Thin a line to what `width` pixels can show: first, lowest, highest and last point of each pixel column, so that no
 * spike is lost. `xs` maps a step to a pixel.
 */
export function thinned(line, xs, width) {
  if (line.length <= 4 * width) return line;
  const kept = [];
  let column = null;
  let bucket = [];
  const flush = () => {
    if (!bucket.length) return;
    let low = bucket[0];
    let high = bucket[0];
    for (const p of bucket) {
      if (p[1] < low[1]) low = p;
      if (p[1] > high[1]) high = p;
    }
    const few = new Set([bucket[0], low, high, bucket.at(-1)]);
    kept.push(...bucket.filter((p) => few.has(p)));
  };
  for (const point of line) {
    const at = Math.floor(xs(point[0]));
    if (at !== column) {
      flush();
      bucket = [];
      column = at;
    }
    bucket.push(point);
  }
  flush();
  return kept;
}

/** The point of a line that is nearest to a step, by bisection; null for an empty line. */
export function nearest(line, step) {
  if (!line.length) return null;
  let low = 0;
  let high = line.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line[middle][0] < step) low = middle;
    else high = middle;
  }
  return step - line[low][0] <= line[high][0] - step ? line[low] : line[high];
}

/** The step nearest to this one at which one of the lines has a point; null where none has. */
export function onLines(lines, step) {
  return lines.reduce((best, { line }) => {
    const [at] = nearest(line, step) ?? [null];
    return at !== null && (best === null || Math.abs(at - step) < Math.abs(best - step)) ? at : best;
  }, null);
}

/** Where an arrow key leads from a step: `move` steps on within [first, last], or as many points of the lines on where these are given. */
export function walked([first, last], from, move, lines = null) {
  if (!lines) return Math.max(first, Math.min(last, (from ?? last) + move));
  const stops = [...new Set(lines.flatMap(({ line }) => line.map((p) => p[0])))].sort((a, b) => a - b);
  const at = from === null ? stops.length - 1 : stops.indexOf(from);
  return stops[Math.max(0, Math.min(stops.length - 1, at + move))];
}

/** A point's value, with its interval where it has one. */
export function withInterval([, value, low, high]) {
  return low === undefined ? label(value) : `${label(value)} [${label(low)}, ${label(high)}]`;
}

/** Is every value positive, so that a log axis makes sense? */
export function allPositive(lines) {
  return lines.every((line) => line.every((p) => p[1] > 0));
}

/** One sentence on a panel for those who cannot see the chart. */
export function summary(title, series) {
  const parts = series
    .filter((s) => s.line.length)
    .map((s) => {
      const values = s.line.map((p) => p[1]);
      const low = values.reduce((a, b) => Math.min(a, b));
      const high = values.reduce((a, b) => Math.max(a, b));
      return `${s.label} ${withInterval(s.line.at(-1))} at step ${s.line.at(-1)[0]}, from ${label(low)} to ${label(high)}`;
    });
  return parts.length ? `${title}: ${parts.join("; ")}` : `${title}: no data yet`;
}
