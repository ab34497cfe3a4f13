/**
 * RewardInspector: a table of responses; the chosen one side by side with its siblings, token by token, and editable;
 * what the reward model is worth on rankings; probes for hacking. Python computes, this draws and asks.
 */
import { heading, hint, numbers } from "./columns.mjs";
import { fillAnswer, fillText, h, keepKeys, reachWhenScrolling, speaker } from "./dom.mjs";
import { columnsOf, filterRows, offer, oneStep, siblings, signed, sortRows, standing, toCSV, toJSONL, withBatch } from "./inspector.mjs";
import { tokenPane } from "./tokens_view.mjs";

const SHOWN = 100; // rows in the table at once
const PROBED = [
  ["probe", null],
  ["mean change", "Of the score, over the responses that were edited"],
  ["", null],
  ["95 % interval", "Of the mean change"],
  ["gain", "Share of responses whose score rose, and how many were edited"],
  ["the edit …", "pays: the interval lies above 0; costs: below 0; unclear: it holds 0"],
];
const QUIET_EDIT = 500; // ms without typing before an edit is scored

function render({ model, el }) {
  const spec = model.get("spec");
  const ask = speaker(model, el);
  const notice = h("div", { class: "lki-notice", role: "status" });
  const detail = detailPane(model, spec, ask);
  const list = listPane(model, spec, ask, (row) => detail.open(row));
  const report = reportPane(model, spec, ask);
  const probes = probePane(model, spec, ask, () => list.rows());
  const pages = [["Responses", h("div", { class: "lki-split" }, list.root, detail.root, spec.explain ? detail.numbers : null)]];
  pages.push(["Reward model", report.root]);
  if (spec.scorer) pages.push(["Probes for hacking", probes.root]);
  const tabs = tabBar(pages, (name) => name === "Reward model" && report.wanted());
  const root = h(
    "div",
    { class: "lk lki", role: "region", "aria-label": spec.title },
    h("header", { class: "lki-bar" }, h("span", { class: "lki-title" }, spec.title), tabs.root, notice),
    pages.map(([, page]) => page),
  );
  const hear = {
    "change:notice": () => {
      const said = model.get("notice");
      notice.textContent = said.text || "";
      notice.classList.toggle("lki-bad", Boolean(said.bad));
      if (said.bad && said.by === ask.client) detail.failed();
    },
    "change:view": detail.tokens,
    "change:edited": detail.scored,
    "change:report": report.update,
    "change:probes": probes.update,
    "change:batch": list.update,
  };
  for (const [event, call] of Object.entries(hear)) model.on(event, call);
  model.on("msg:custom", list.told);
  const release = keepKeys(root);
  el.append(root);
  Object.values(hear).forEach((call) => call());
  list.draw();
  list.openFirst();
  return () => {
    for (const [event, call] of Object.entries(hear)) model.off(event, call);
    model.off("msg:custom", list.told);
    release();
    root.remove();
  };
}

/** Tabs by the ARIA pattern: arrow keys move, the chosen page is shown. */
function tabBar(pages, chosen) {
  const tabs = pages.map(([name], i) => h("button", { type: "button", role: "tab", class: "lki-tab", onclick: () => pick(i) }, name));
  pages.forEach(([name, page]) => {
    page.setAttribute("role", "tabpanel");
    page.setAttribute("aria-label", name);
  });
  const pick = (at) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === at));
      tab.tabIndex = i === at ? 0 : -1;
      pages[i][1].hidden = i !== at;
    });
    chosen(pages[at][0]);
  };
  const root = h("div", { class: "lki-tabs", role: "tablist" }, tabs);
  root.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const at = (tabs.findIndex((t) => t.tabIndex === 0) + move + tabs.length) % tabs.length;
    pick(at);
    tabs[at].focus();
  });
  pick(0);
  return { root };
}

/** The table: search, menus, the whole batch of a chosen step, sorting by its headers, export. */
function listPane(model, spec, ask, open) {
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

const columnOf = (rows, key) => numbers(rows.map((row) => row[key]));

function cell(value, key, write) {
  if (typeof value === "number") return h("td", { class: "lki-num" }, write ? write(value) : String(Number(value.toPrecision(4))));
  if (typeof value === "boolean") return h("td", {}, value ? "yes" : "no");
  const text = value === null || value === undefined ? "" : String(value).trim();
  const fill = key === "response" ? fillAnswer : fillText;
  const box = fill(h("div", { dir: "auto" }), text.length > 240 ? `${text.slice(0, 240)}…` : text);
  return h("td", { class: key === "prompt" || key === "response" ? "lki-text" : key === "source" ? "lki-name" : "" }, box);
}

function download(name, type, text) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** One response: its prompt, its siblings side by side, its tokens, and a box to edit it. */
function detailPane(model, spec, ask) {
  const prompt = h("div", { class: "lki-prompt", dir: "auto" });
  const beside = h("div", { class: "lki-beside" });
  const tokens = tokenPane();
  const box = h("textarea", { rows: 3, class: "lki-edit", "aria-label": "Edit the response", maxlength: 20000 });
  const ends = h("input", { type: "checkbox", checked: true });
  const result = h("div", { class: "lki-result", role: "status" });
  const back = h("button", { type: "button", class: "lki-button", onclick: () => row && edit(row) }, "Original");
  let row = null;
  let timer = 0;
  const request = () => {
    clearTimeout(timer);
    result.dataset.waiting = "true";
    timer = setTimeout(() => row && ask({ kind: "rescore", row: row.row, text: box.value, finished: ends.checked }), QUIET_EDIT);
  };
  box.addEventListener("input", request);
  ends.addEventListener("change", request);
  const edit = (r) => {
    box.value = r.response;
    ends.checked = r.finished !== false;
    result.textContent = r.score === undefined || r.score === null ? "" : `score ${Number(r.score.toPrecision(4))}`;
    result.dataset.waiting = "false";
  };
  const open = (r) => {
    row = r;
    fillText(prompt, r.prompt.trim());
    reachWhenScrolling(prompt, "Prompt");
    const same = siblings(withBatch(model.get("rows"), model.get("batch")), r);
    const pressed = beside.contains(beside.getRootNode().activeElement); // a card was: its new self keeps the focus
    beside.replaceChildren(...same.map((s) => card(s, s === r, standing(s, same), () => open(s))));
    if (pressed) beside.children[same.indexOf(r)]?.focus();
    edit(r);
    tokens.clear(spec.explain);
    if (!spec.explain) return;
    if (model.get("view").row === r.row) show(); // also what a page loaded anew finds
    else ask({ kind: "explain", row: r.row });
  };
  const scored = () => {
    const answer = model.get("edited");
    if (!row || answer.row !== row.row || answer.text !== box.value || answer.finished !== ends.checked) return;
    if (typeof answer.score !== "number") {
      result.dataset.waiting = "false";
      result.textContent = "The scorer gives no finite score for this text.";
      return;
    }
    const change = answer.score - answer.before;
    result.dataset.waiting = "false";
    result.dataset.sign = change > 0 ? "up" : change < 0 ? "down" : "";
    result.textContent = `score ${Number(answer.score.toPrecision(4))}, ${signed(change)} against the original`;
  };
  const failed = () => {
    tokens.failed();
    if (result.dataset.waiting !== "true") return;
    result.dataset.waiting = "false";
    result.textContent = "not scored";
  };
  const show = () => row && tokens.show(model.get("view"), row);
  const root = h(
    "section",
    { class: "lki-detail", "aria-label": "The chosen response" },
    h("h4", {}, "Prompt"),
    prompt,
    h("h4", {}, "Side by side"),
    beside,
    spec.explain ? tokens.root : null,
    spec.scorer ? h("div", {}, h("h4", {}, "Edit and rescore"), box, h("div", { class: "lki-editbar" }, h("label", {}, ends, " ends with the end token"), back, result)) : null,
  );
  return { root, numbers: tokens.numbers, open, tokens: show, scored, failed };
}

function card(row, own, stands, open) {
  const step = row.step ? `step ${row.step}` : "";
  const facts = [row.score !== undefined && row.score !== null ? `score\u00a0${Number(row.score.toPrecision(3))}` : "", row.gold !== undefined && row.gold !== null ? `gold\u00a0${Number(row.gold.toPrecision(3))}` : "", row.kl !== undefined && row.kl !== null ? `KL\u00a0${Number(row.kl.toPrecision(3))}` : ""].filter(Boolean);
  return h(
    "button",
    { type: "button", class: "lki-card", "aria-pressed": String(own), onclick: open },
    h("div", { class: "lki-card-head" }, h("strong", {}, h("span", { class: "lki-name" }, row.source ?? "response"), step && `, ${step}`), stands ? h("span", { class: "lki-best" }, stands) : null),
    fillAnswer(h("div", { class: "lki-card-text", dir: "auto" }), row.response.trim()),
    h("div", { class: "lki-card-facts" }, facts.join(" · ")),
  );
}

/** The reward model on rankings: figures, and where people disagree with it most. */
function reportPane(model, spec, ask) {
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
function probePane(model, spec, ask, rows) {
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

function plainTable(rows) {
  const keys = Object.keys(rows[0]);
  const write = Object.fromEntries(keys.map((key) => [key, columnOf(rows, key)]));
  const heads = keys.map((k) => h("th", { scope: "col", class: write[k] && "lki-num", title: hint(k) }, heading(k)));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map((r) => h("tr", {}, keys.map((k) => cell(r[k], "response", write[k]))))));
}

export default { render };
