/**
 * RewardInspector: a table of responses; the chosen one side by side with its siblings, token by token, and editable;
 * what the reward model is worth on rankings; probes for hacking. Python computes, this draws and asks.
 */
import { h, keepKeys, speaker } from "./dom.mjs";
import { detailPane } from "./inspector_detail.mjs";
import { listPane } from "./inspector_list.mjs";
import { probePane, reportPane } from "./inspector_reports.mjs";

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

export default { render };
