/** The inspector's table of responses. */
import { heading, hint } from "./columns.mjs";
import { h } from "./dom.mjs";
import { columnsOf, filterRows, offer, oneStep, sortRows, toCSV, toJSONL, withBatch } from "./inspector.mjs";
import { cell, columnOf } from "./inspector_table.mjs";

const SHOWN = 100; // rows in the table at once

/** The table: search, menus, the whole batch of a chosen step, sorting by its headers, export. */
export function listPane(model, spec, ask, open) {
  let all = withBatch(model.get("rows"), model.get("batch"));
  const columns = columnsOf(all);
  const search = h("input", { type: "search", class: "lki-search", placeholder: "Search the texts", "aria-label": "Search prompts and responses" });
  const menus = ["source", "step", "finished"].flatMap((key) => {
    const offered = offer(spec.offered, all, key);
    return offered.length > 1 ? [[key, h("select", { class: "lki-menu", "aria-label": key }, h("option", { value: "" }, `any ${key}`), offered.map((v) => h("option", { value: v }, `${key}: ${{ true: "yes", false: "no" }[v] ?? v}`)))]] : [];
  });
  const count = h("span", { class: "lki-count", role: "status" });
  const body = h("tbody", {});
  const heads = columns.map((key) => h("th", { scope: "col", class: columnOf(all, key) && "lki-num" }, h("button", { type: "button", class: "lki-sort", title: hint(key), onclick: () => sortBy(key) }, heading(key))));
  const more = h("button", { type: "button", class: "lki-button", hidden: true, onclick: () => showMore() }, "Show more");
  const unseen = () => [...new Set([...spec.unseen, ...(model.get("batch").unseen ?? [])])];
  const save = (name, type, text) => h("button", { type: "button", class: "lki-button", title: `Export the filtered rows as ${name}, with seeds and token ids where they are kept`, onclick: () => exported(rows(), (found, told) => download(`responses.${name}`, type, text(found, told))) }, name.toUpperCase());
  let sort = { key: columns.includes("score") ? "score" : "", down: true };
  let limit = SHOWN;
  let current = null;

  let exports = 0;
  let waiting = null; // an export that waits for what only Python holds
  const chosenNow = () => Object.fromEntries(menus.map(([key, menu]) => [key, menu.value]));
  const whole = h("button", { type: "button", class: "lki-button", hidden: true, onclick: () => ask({ kind: "batch", ...stepNow() }) }, spec.batches ? "Whole batch" : "Its samples");
  const stepNow = () => oneStep(all, chosenNow(), spec.offered);
  /** What is not on the page, and how to get it. */
  const absent = () => {
    const [batch, step] = [model.get("batch"), stepNow()];
    const shown = step && batch.source === step.source && batch.step === step.step;
    if (shown && batch.left_out) return ` (${batch.left_out} more of this step are only in its file)`;
    if (shown && !batch.whole) return spec.batches ? " (of this step no whole batch is kept)" : "";
    return spec.left_out ? ` (${spec.left_out} earlier ones are not on the page: choose a source and a step, then "${whole.textContent}")` : "";
  };
  const exported = (found, done) => {
    if (!unseen().length) return done(found, {});
    waiting = { number: (exports += 1), done: (told) => done(found, told) };
    ask({ kind: "unseen", rows: found.map((r) => r.row), number: exports });
  };
  const told = (message) => {
    if (message?.kind !== "unseen" || message.client !== ask.client || message.number !== waiting?.number) return;
    waiting.done(message.rows);
    waiting = null;
  };
  const rows = () => {
    const chosen = chosenNow();
    const found = filterRows(all, { search: search.value, ...chosen });
    return sort.key ? sortRows(found, sort.key, sort.down) : found;
  };
  const pick = (row, focus = false) => {
    current = row.row;
    for (const line of body.children) {
      const own = Number(line.dataset.row) === current;
      line.setAttribute("aria-selected", String(own));
      line.tabIndex = own ? 0 : -1;
      if (own && focus) line.focus();
    }
    open(row);
  };
  const line = (row) =>
    h(
      "tr",
      { tabindex: -1, "aria-selected": "false", dataset: { row: row.row }, onclick: () => pick(row) },
      columns.map((key) => cell(row[key], key, write[key])),
    );
  let write = {};
  const draw = () => {
    const found = rows();
    write = Object.fromEntries(columns.map((key) => [key, columnOf(all, key)]));
    count.textContent = `${found.length} of ${all.length} responses${absent()}`;
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    body.replaceChildren(...found.slice(0, limit).map(line));
    more.hidden = found.length <= limit;
    const step = spec.batches || spec.left_out ? stepNow() : null;
    const shown = model.get("batch");
    whole.hidden = !step || (shown.source === step.source && shown.step === step.step);
    if (step) whole.title = `Show all that ${step.source} sampled at step ${step.step}`;
    heads.forEach((head, i) => head.setAttribute("aria-sort", sort.key === columns[i] ? (sort.down ? "descending" : "ascending") : "none"));
    const own = [...body.children].find((l) => Number(l.dataset.row) === current) ?? body.firstElementChild;
    if (own) own.tabIndex = 0;
    [...body.children].forEach((l) => l.setAttribute("aria-selected", String(Number(l.dataset.row) === current)));
    if (focused !== null) reach([...body.children].find((l) => l.dataset.row === focused) ?? body.firstElementChild); // it was drawn anew
  };
  /** Give the keyboard to a row, without opening it. */
  const reach = (line) => {
    if (!line) return search.focus();
    [...body.children].forEach((l) => (l.tabIndex = l === line ? 0 : -1));
    line.focus();
  };
  const showMore = () => {
    const before = body.childElementCount;
    limit += SHOWN;
    draw();
    reach(body.children[before]);
  };
  const sortBy = (key) => {
    sort = { key, down: sort.key === key ? !sort.down : true };
    draw();
  };
  body.addEventListener("keydown", (event) => {
    if (["Enter", " "].includes(event.key)) {
      event.preventDefault();
      return pick(all.find((r) => r.row === Number(event.target.closest("tr").dataset.row)), true);
    }
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const target = next && event.target.closest("tr")?.[next];
    if (!next) return;
    event.preventDefault();
    if (target) pick(all.find((r) => r.row === Number(target.dataset.row)), true);
  });
  const update = () => {
    const pressed = document.activeElement === whole;
    all = withBatch(model.get("rows"), model.get("batch"));
    draw();
    if (pressed && whole.hidden) reach(body.firstElementChild); // the button is gone: the keyboard goes on in what it brought
  };
  const searchAgain = () => ((limit = SHOWN), draw());
  search.addEventListener("input", searchAgain);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !search.value) return;
    event.preventDefault(); // the next one leaves the board
    search.value = "";
    searchAgain();
  });
  menus.forEach(([, menu]) => menu.addEventListener("change", searchAgain));
  const root = h(
    "section",
    { class: "lki-list" },
    h("div", { class: "lki-tools" }, search, menus.map(([, menu]) => menu), whole, count, h("span", { class: "lki-export" }, "Export ", save("csv", "text/csv", (found, told) => toCSV(found, columns, told)), save("jsonl", "application/x-ndjson", toJSONL))),
    h("div", { class: "lki-scroll" }, h("table", { role: "grid", "aria-label": "Responses" }, h("thead", {}, h("tr", {}, heads)), body), more),
  );
  return { root, rows, draw, update, told, openFirst: () => rows().length && pick(rows()[0]) };
}

function download(name, type, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
