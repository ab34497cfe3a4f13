/** KnobPanel: the sliders of a Dial by themselves. */
import { h, keepKeys, speaker } from "./dom.mjs";
import { knobPanel } from "./knobs_view.mjs";

function render({ model, el }) {
  const panel = knobPanel(model.get("spec").knobs, speaker(model, el));
  const error = h("div", { class: "lkk-error", role: "alert" });
  const root = h("div", { class: "lk lkk-alone" }, panel.root, error);
  const update = () => {
    const state = model.get("state");
    panel.update(state.knobs);
    error.textContent = state.error || "";
  };
  const release = keepKeys(root);
  model.on("change:state", update);
  update();
  el.append(root);
  return () => {
    model.off("change:state", update);
    release();
    root.remove();
  };
}

export default { render };
