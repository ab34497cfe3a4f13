/** The inspector's view of one response. */
import { fillAnswer, fillText, h, reachWhenScrolling } from "./dom.mjs";
import { siblings, signed, standing, withBatch } from "./inspector.mjs";
import { tokenPane } from "./tokens_view.mjs";

const QUIET_EDIT = 500; // ms without typing before an edit is scored

/** One response: its prompt, its siblings side by side, its tokens, and a box to edit it. */
export function detailPane(model, spec, ask) {
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
