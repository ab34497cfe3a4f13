/**
 * Cockpit: the live board of a training job. It draws what Python sends (curves as float32 packets, the rest as state)
 * and says what a person wants (start, pause, turn, branch, …); it never decides anything.
 */
import { alertList } from "./alerts_view.mjs";
import { fillAnswer, fillText, h, keepKeys, reachWhenScrolling, speaker } from "./dom.mjs";
import { heading, hint, inOrder, numbers } from "./columns.mjs";
import { CurveStore } from "./curves.mjs";
import { HUES, chart, keepStop, oneStop } from "./chart_view.mjs";
import { knobPanel } from "./knobs_view.mjs";

const NOW = "now"; // a branch from where the run stands
const KEPT = "Measured on the ticked prompts and kept with the run. A fall of the win rate is told against earlier evaluations of the same prompts; one prompt alone says nothing.";
const FIRST = "Curves appear with the first step.";

function render({ model, el }) {
  const spec = model.get("spec");
  const store = new CurveStore();
  const ask = speaker(model, el);
  const charts = spec.panels.map((panel) => chart(panel, store));
  const knobs = spec.knobs.length ? knobPanel(spec.knobs, ask) : null;
  const bar = controls(spec, ask, () => knobs?.note() ?? "");
  const warnings = alertList(ask, () => bar.root.querySelector("button:not([hidden])"));
  const runs = h("div", { class: "lkc-runs" });
  const tray = drawer(spec, ask);
  const empty = h("div", { class: "lkc-empty" }, FIRST);
  const root = h(
    "div",
    { class: "lk lkc", role: "region", "aria-label": `Cockpit of ${spec.title}` },
    bar.root,
    warnings.root,
    h(
      "div",
      { class: "lkc-body" },
      h("div", { class: "lkc-main" }, runs, oneStop(h("div", { class: "lkc-grid", role: "group", "aria-label": "Curves: left and right read values, up and down go to another chart" }, empty, charts.map((c) => c.root)))),
      knobs ? h("aside", { class: "lkc-side" }, knobs.root) : null,
    ),
    tray.root,
  );

  let due = 0;
  let arrived = 0; // when the oldest packet came that is not drawn yet
  const drawAll = () => {
    due = 0;
    const started = performance.now();
    charts.forEach((c) => c.draw());
    keepStop(root);
    empty.hidden = [...store.curves.values()].some((c) => c.count > 0);
    showRuns(runs, store);
    const ended = performance.now(); // measured on the page itself, for the tests of its budget
    root.dataset.drawMs = (ended - started).toFixed(1);
    if (arrived) root.dataset.packetMs = (ended - arrived).toFixed(1);
    arrived = 0;
  };
  const redraw = () => (due ||= requestAnimationFrame(drawAll));
  const packet = (head, buffers) => {
    if (!["clear", "curve", "drop"].includes(head?.kind)) return;
    arrived ||= performance.now();
    if (!store.take(head, buffers?.[0])) ask({ kind: "hello" });
    redraw();
  };
  const refresh = () => {
    const state = model.get("state");
    if (!state.status) return;
    bar.update(state);
    knobs?.update(state.knobs);
    warnings.update(state.alerts);
    charts.forEach((c) => (c.setMarks(state.marks), c.setMeasured(state.win_rates)));
    empty.textContent = state.status === "idle" ? `${FIRST} Press Start, or turn a knob before.` : FIRST;
    redraw();
  };
  const ledger = () => tray.showLedger(model.get("ledger"));
  const samples = () => tray.showSamples(model.get("samples"));
  const answers = () => tray.showAnswers(model.get("answers"));

  model.on("msg:custom", packet);
  model.on("change:state", refresh);
  model.on("change:samples", samples);
  model.on("change:answers", answers);
  model.on("change:ledger", ledger);
  const release = keepKeys(root);
  const sizes = new ResizeObserver(redraw);
  const theme = new MutationObserver(redraw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  el.append(root);
  sizes.observe(root);
  refresh();
  samples();
  answers();
  ledger();
  ask({ kind: "hello" });
  return () => {
    model.off("msg:custom", packet);
    model.off("change:state", refresh);
    model.off("change:samples", samples);
    model.off("change:answers", answers);
    model.off("change:ledger", ledger);
    cancelAnimationFrame(due);
    release();
    sizes.disconnect();
    theme.disconnect();
    root.remove();
  };
}

/** The bar on top: state in words, the buttons of the job, snapshots and branches. note: what the Why box says. */
function controls(spec, ask, note) {
  const button = (what, text, title) => h("button", { type: "button", class: "lkc-button", title, dataset: { what }, onclick: () => ask({ kind: "do", what }) }, text);
  const buttons = {
    start: button("start", "▶ Start", "Begin training in the background"),
    pause: button("pause", "❚❚ Pause", "Finish the step under way, then wait"),
    resume: button("resume", "▶ Resume", "Go on"),
    step: button("step", "Step", "One step, then pause"),
    stop: button("stop", "■ Stop", "End after the step under way; what was trained is kept, and a roll back to a snapshot goes on from there"),
  };
  const pill = h("span", { class: "lkc-pill", role: "status" }); // the line changes at every step: too often to be spoken
  const line = h("span", { class: "lkc-line" });
  const meter = h("div", { class: "lkc-meter", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": spec.total });
  const notice = h("div", { class: "lkc-notice", role: "status" });
  const keep = button("snapshot", "Snapshot now", "Keep the state as it is after this step for good; one can roll back to it");
  const from = h("select", { "aria-label": "Snapshot to roll back to", class: "lkc-select" });
  const back = h("button", { type: "button", class: "lkc-button", title: "Return to that snapshot: weights, optimisers and knobs", onclick: () => from.value && ask({ kind: "rollback", step: Number(from.value), why: note() }) }, "↶ Roll back");
  const name = h("input", { type: "text", class: "lkc-name", placeholder: "branch name", maxlength: 60, "aria-label": "Name of the new branch" });
  const at = h("select", { "aria-label": "Step to branch from", class: "lkc-select lkc-at" });
  for (const list of [from, at]) list.addEventListener("change", () => (list.dataset.chosen = list.value));
  const split = () => {
    if (!name.value.trim()) {
      say(notice, "Give the new branch a name first.");
      return name.focus();
    }
    ask({ kind: "branch", name: name.value.trim(), step: at.value === NOW ? null : Number(at.value) });
    name.value = "";
  };
  const fork = h("button", { type: "button", class: "lkc-button", title: "Go on in a folder of its own, from here or from an earlier step; the trunk stays as it is", onclick: split }, "Branch off");
  name.addEventListener("keydown", (event) => event.key === "Enter" && split());
  const tools = spec.snapshots ? h("div", { class: "lkc-tools" }, keep, h("span", { class: "lkc-pair" }, from, back), h("span", { class: "lkc-pair" }, name, at, fork)) : null;
  const root = h(
    "header",
    { class: "lkc-bar" },
    h("div", { class: "lkc-top" }, h("span", { class: "lkc-name-of" }, spec.title), pill, line, h("span", { class: "lkc-buttons" }, Object.values(buttons))),
    meter,
    tools,
    notice,
  );
  const update = (state) => {
    const { status } = state;
    const alive = status === "running" || status === "paused";
    if (pill.textContent !== status) pill.textContent = status;
    pill.dataset.status = status;
    const words = state.line.replace(/^[a-z]+ (· )?/, ""); // the pill beside it says the status
    if (line.textContent !== words) line.textContent = words;
    meter.style.setProperty("--done", `${(100 * state.step) / Math.max(1, state.total)}%`);
    meter.setAttribute("aria-valuenow", state.step);
    show(buttons.start, status === "idle");
    show(buttons.pause, status === "running");
    show(buttons.resume, status === "paused");
    show(buttons.step, status === "paused" || status === "idle");
    show(buttons.stop, alive);
    const wanted = state.snapshots.map(String);
    keep.disabled = !alive;
    back.disabled = status === "idle" || !wanted.length; // a run that has ended, also by an error, goes on from a snapshot
    from.disabled = !wanted.length;
    offer(from, wanted.length ? wanted.map((s) => [s, `to step ${s}`]) : [["", "no snapshot yet"]], wanted.at(-1) ?? "");
    const forks = [...(alive ? [[NOW, "from here"]] : []), ...wanted.map((s) => [s, `from step ${s}`])];
    offer(at, forks.length ? forks : [["", "after the start"]], forks.length ? (alive ? NOW : wanted.at(-1)) : "");
    name.disabled = at.disabled = fork.disabled = status === "idle" || !forks.length;
    const told = JSON.stringify(state.notice);
    if (notice.dataset.told === told) return; // what the page itself says stays until Python says something else
    notice.dataset.told = told;
    notice.classList.toggle("lkc-bad", Boolean(state.notice?.bad));
    say(notice, state.notice?.text || "");
  };
  return { root, update };
}

const say = (element, text) => (element.textContent = text);

/** Offer these [value, text] in a select, in place: a list that is open stays open; what a person chose stays while it is offered, else the usual one is shown. */
function offer(select, options, usual = "") {
  const chosen = select.dataset.chosen || (document.activeElement === select ? select.value : "");
  const values = options.map(([value]) => value);
  for (const option of [...select.options]) if (!values.includes(option.value)) option.remove();
  options.forEach(([value, text], i) => {
    if (select.options[i]?.value !== value) select.add(h("option", { value }, text), i);
  });
  if (!values.includes(chosen)) delete select.dataset.chosen;
  select.value = values.includes(chosen) ? chosen : usual;
}

/** Hide a button; the focus moves on to its successor so that the keyboard never falls out of the board. */
function show(button, visible) {
  const had = document.activeElement === button;
  button.hidden = !visible;
  if (had && !visible) setTimeout(() => button.parentElement.querySelector("button:not([hidden])")?.focus(), 300);
}

/** Names and colours of the runs, once there is more than one. */
function showRuns(root, store) {
  const main = store.ordered().filter((c) => c.role !== "ghost").sort((a, b) => a.id - b.id);
  const ghosts = store.ordered().filter((c) => c.role === "ghost");
  const wanted = JSON.stringify([...main, ...ghosts].map((c) => [c.name, c.role]));
  if (root.dataset.wanted === wanted) return;
  root.dataset.wanted = wanted;
  const several = main.length > 1;
  const items = several ? main.map((c, i) => [c, HUES[i % HUES.length], c.role]) : [];
  ghosts.forEach((c) => items.push([c, "", "ghost"]));
  root.replaceChildren(
    ...items.map(([curve, hue, role]) => {
      const item = h("span", { class: "lkc-run", dataset: { role } }, curve.name);
      if (hue) item.style.setProperty("--hue", hue);
      return item;
    }),
  );
}

/** Below the curves: samples of the newest batch, and the questions that a person may put to the policy. */
function drawer(spec, ask) {
  const newest = h("div", { class: "lkc-table" });
  const answers = h("div", { class: "lkc-answers" });
  const requests = h("div", { class: "lkc-table" });
  const own = h("textarea", { rows: 2, class: "lkc-own", placeholder: "a prompt of your own", "aria-label": "A prompt of your own" });
  const boxes = spec.prompts.map((text, i) => h("input", { type: "checkbox", checked: i === 0, "aria-label": `Prompt ${i + 1}` }));
  const chosen = () => [...boxes.flatMap((box, i) => (box.checked ? [spec.prompts[i]] : [])), ...(own.value.trim() ? [`${own.value.replace(/\s+$/, "")}\n`] : [])];
  const press = (kind, text, title) => h("button", { type: "button", class: "lkc-button", title, dataset: { what: kind }, onclick: () => ask({ kind, prompts: chosen() }) }, text);
  const tick = () => {
    const all = boxes.every((box) => box.checked);
    for (const box of boxes) box.checked = !all;
  };
  const every = h("button", { type: "button", class: "lkc-button", hidden: boxes.length < 2, title: "Tick all of these prompts, or none", onclick: tick }, "All / none");
  const asking = spec.sample || spec.evaluate;
  const samples = h("details", { open: true, hidden: true, class: "lkc-section" }, h("summary", {}, "Newest samples"), newest); // a reward model never has any
  const root = h(
    "div",
    { class: "lkc-drawer" },
    samples,
    asking
      ? h(
          "details",
          { class: "lkc-section lkc-ask" },
          h("summary", {}, "Ask the policy now"),
          h("div", { class: "lkc-prompts" }, spec.prompts.map((text, i) => h("label", {}, boxes[i], fillText(h("span", {}), text.trim()))), own),
          h("div", { class: "lkc-press" }, every, spec.sample ? press("sample", "Sample now", "Answers to the ticked prompts by the policy as it stands") : null, spec.evaluate ? press("evaluate", "Evaluate now", KEPT) : null),
          answers,
        )
      : null,
    spec.knobs.length ? h("details", { class: "lkc-section" }, h("summary", {}, "Ledger: what was asked, and what became of it"), requests) : null,
  );
  const showLedger = (rows) => requests.replaceChildren(rows.length ? table(rows) : h("p", { class: "lkc-none" }, "Nothing was asked yet."));
  const showSamples = (rows) => {
    samples.hidden = !rows.length;
    newest.replaceChildren(...(rows.length ? [table(rows, ["prompt_id"])] : []));
    for (const box of newest.querySelectorAll("td > div")) reachWhenScrolling(box, "long text");
  };
  const showAnswers = (list) => {
    const seen = answers.childElementCount;
    const head = (a) => (a.kind === "sample" ? `Sampled after step ${a.step}` : `Evaluated after step ${a.step} on ${a.prompts} prompt${a.prompts === 1 ? "" : "s"}`);
    answers.replaceChildren(...list.map((a) => h("div", {}, h("h4", {}, head(a)), table(a.rows))));
    if (list.length && !seen) answers.closest("details").open = true;
  };
  return { root, showSamples, showAnswers, showLedger };
}

/** A plain table; every text goes in as text, with hidden characters shown. */
function table(rows, left = []) {
  const have = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((k) => !left.includes(k));
  const keys = "score" in rows[0] ? inOrder(have) : have;
  const write = Object.fromEntries(keys.map((k) => [k, numbers(rows.map((row) => row[k]))]));
  const cell = (value, key) => {
    if (typeof value === "number") return write[key] ? h("td", { class: "lkc-num" }, write[key](value)) : h("td", {}, String(Number(value.toPrecision(4))));
    if (typeof value === "boolean") return h("td", {}, value ? "yes" : "no");
    const fill = key === "response" ? fillAnswer : fillText;
    return h("td", { class: "lkc-text" }, fill(h("div", { dir: "auto" }), value === null || value === undefined ? "" : String(value).trim()));
  };
  return h("table", {}, h("thead", {}, h("tr", {}, keys.map((k) => h("th", { scope: "col", class: write[k] && "lkc-num", title: hint(k) }, heading(k))))), h("tbody", {}, rows.map((row) => h("tr", {}, keys.map((k) => cell(row[k], k))))));
}

export default { render };
