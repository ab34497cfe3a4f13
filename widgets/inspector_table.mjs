/** Cells and plain tables of the inspector: texts as they are, numbers short. */
import { fillAnswer, fillText, h } from "./dom.mjs";

export function cell(value, key) {
  if (typeof value === "number") return h("td", { class: "lki-num" }, String(Number(value.toPrecision(4))));
  if (typeof value === "boolean") return h("td", {}, value ? "yes" : "no");
  const text = value === null || value === undefined ? "" : String(value).trim();
  const fill = key === "response" ? fillAnswer : fillText;
  const box = fill(h("div", { dir: "auto" }), text.length > 240 ? `${text.slice(0, 240)}…` : text);
  return h("td", { class: key === "prompt" || key === "response" ? "lki-text" : "" }, box);
}

export function plainTable(rows) {
  const keys = Object.keys(rows[0]);
  return h("table", {}, h("thead", {}, h("tr", {}, keys.map((k) => h("th", { scope: "col" }, k)))), h("tbody", {}, rows.map((r) => h("tr", {}, keys.map((k) => cell(r[k], "response"))))));
}
