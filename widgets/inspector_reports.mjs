/** What the inspector says of the reward model: on rankings, and under probes for hacking. */
import { fillText, h } from "./dom.mjs";
import { signed, withBatch } from "./inspector.mjs";
import { plainTable } from "./inspector_table.mjs";

const PROBED = [
  ["probe", null],
  ["mean change", "Of the score, over the responses that were edited"],
  ["", null],
  ["95 % interval", "Of the mean change"],
  ["gain", "Share of responses whose score rose, and how many were edited"],
  ["the edit …", "pays: the interval lies above 0; costs: below 0; unclear: it holds 0"],
];

/** The reward model on rankings: figures, and where people disagree with it most. */
export function reportPane(model, spec, ask) {
  const figures = h("div", { class: "lki-figures" }, h("p", { class: "lki-none" }, "The figures come here when the reward model has scored the rankings …"));
  const worst = h("div", { class: "lki-worst" });
  const again = h("button", { type: "button", class: "lki-button", onclick: () => ask({ kind: "report" }) }, "Compute again");
  const root = h("section", { class: "lki-page" }, figures, worst, again);
  let asked = false;
  const wanted = () => {
    if (!asked) ask({ kind: "report" });
    asked = true;
  };
  const update = () => {
    const report = model.get("report");
    if (!report.figures) return;
    asked = true;
    figures.replaceChildren(...report.figures.map((f) => h("img", { alt: f.title, src: `data:image/png;base64,${f.png}`, width: f.width })));
    worst.replaceChildren(...(report.disagreements.length ? [h("h4", {}, "Where labelers and the reward model disagree most"), plainTable(report.disagreements)] : []));
    if (!spec.rankings) worst.append(h("p", { class: "lki-none" }, "Give rankings=… and scorer=… to see calibration, accuracy and disagreements."));
  };
  return { root, wanted, update };
}

/** Edits that help nobody: does the reward model pay for them? */
export function probePane(model, spec, ask, rows) {
  const table = h("div", {});
  const on = h("p", { class: "lki-probed", role: "status" });
  const names = h("details", { class: "lki-drawn", hidden: true });
  const run = h("button", { type: "button", class: "lki-button lki-main", onclick: () => ask({ kind: "probe", rows: rows().map((r) => r.row) }) }, "Probe the filtered responses");
  const root = h("section", { class: "lki-page" }, h("p", {}, "Each probe edits responses in a way that makes no answer better. A sound reward model lowers its score; one that pays for an edit shows a door that PPO will find."), run, on, table, names);
  const update = () => {
    const { findings: found, which, rows: probed } = model.get("probes");
    if (!found) return;
    const known = new Map(withBatch(model.get("rows"), model.get("batch")).map((r) => [r.row, r]));
    const facts = probed.flatMap((place) => (known.has(place) ? [Object.fromEntries(["source", "step", "prompt_id", "score"].map((key) => [key, known.get(place)[key]]).filter(([, v]) => v !== null && v !== undefined))] : []));
    on.textContent = `Probed: ${which}.`;
    names.hidden = !facts.length;
    names.replaceChildren(...(facts.length ? [h("summary", {}, "Which responses"), plainTable(facts)] : []));
    const most = Math.max(...found.map((f) => Math.abs(f.change)), 1e-9);
    const line = (f) => {
      const bar = h("div", { class: "lki-effect", "aria-hidden": "true" }, h("i", { dataset: { sign: f.change > 0 ? "up" : "down" } }));
      bar.style.setProperty("--size", `${(50 * Math.abs(f.change)) / most}%`);
      const span = f.low === null ? "one response" : `${signed(f.low)} … ${signed(f.high)}`;
      const example = h("details", {}, h("summary", {}, "example"), fillText(h("div", { class: "lki-example" }), `${f.example.before}\n→ ${f.example.after || "(empty)"}\n${signed(f.example.change)}`));
      return h("tr", { dataset: { verdict: f.verdict } }, h("th", { scope: "row" }, f.name), h("td", { class: "lki-num" }, signed(f.change)), h("td", {}, bar), h("td", { class: "lki-num" }, span), h("td", { class: "lki-num" }, `${Math.round(100 * f.gained)} % of ${f.count}`), h("td", {}, h("span", { class: "lki-verdict" }, f.verdict), f.verdict === "pays" ? `: ${f.meaning}` : "", example));
    };
    table.replaceChildren(h("table", {}, h("thead", {}, h("tr", {}, PROBED.map(([name, told]) => h("th", { scope: "col", title: told }, name)))), h("tbody", {}, found.map(line))));
  };
  return { root, update };
}
