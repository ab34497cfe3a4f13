/** Cells and plain tables of the inspector: texts as they are, numbers of a column under each other. */
import { heading, hint, numbers } from "./columns.mjs";
import { fillAnswer, fillText, h } from "./dom.mjs";

export const columnOf = (rows, key) => numbers(rows.map((row) => row[key]));

export function cell(value, key, write) {
  if (typeof value === "number") return h("td", { class: "lki-num" }, write ? write(value) : String(Number(value.toPrecision(4))));
  if (typeof value === "boolean") return h("td", {}, value ? "yes" : "no");
  const text = value === null || value === undefined ? "" : String(value).trim();
  const fill = key === "response" ? fillAnswer : fillText;
  const box = fill(h("div", { dir: "auto" }), text.length > 240 ? `${text.slice(0, 240)}…` : text);
  return h("td", { class: key === "prompt" || key === "response" ? "lki-text" : key === "source" ? "lki-name" : "" }, box);
}

export function plainTable(rows) {
  const keys = Object.keys(rows[0]);
  const write = Object.fromEntries(keys.map((key) => [key, columnOf(rows, key)]));
  const heads = keys.map((k) => h("th", { scope: "col", class: write[k] && "lki-num", title: hint(k) }, heading(k)));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map((r) => h("tr", {}, keys.map((k) => cell(r[k], "response", write[k]))))));
}
