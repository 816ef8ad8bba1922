// Keys and the end of the kernel; see __init__.py.

const GUARDED = "dp-guarded";
const SUPPRESSED = "data-lm-suppress-shortcuts"; // Lumino looks for no command of a key that such an element gets

const GONE = new Set(["restarting", "autorestarting", "terminating", "dead", "disconnected"]);

// The outermost guarded widget around the guard: a page may be put together from several.
function rootOf(el) {
  let root = null;
  for (let at = el.closest(`.${GUARDED}`); at; at = at.parentElement?.closest(`.${GUARDED}`)) root = at;
  return root;
}

// AltGr is Ctrl and Alt on Windows, and writes a character.
function passes(event) {
  if (event.getModifierState?.("AltGraph")) return false;
  return event.key === "Escape" || event.ctrlKey || event.metaKey;
}

function render({ model, el }) {
  // On `window`, while the event is on its way down: JupyterLab listens at the document.
  // The key itself goes on to its control, also to those of ours that listen for it.
  const decide = (event) => {
    if (rootOf(el)?.contains(event.target)) event.target.toggleAttribute(SUPPRESSED, !passes(event));
  };
  window.addEventListener("keydown", decide, true);

  const alert = document.createElement("div");
  alert.setAttribute("role", "alert");
  el.classList.add("dp-guard");
  el.append(alert);
  const lose = () => {
    alert.textContent = model.get("lost");
    (rootOf(el) ?? el).classList.add("dp-lost");
  };
  // The widgets' manager marks each view whose model has lost its counterpart ...
  const look = () => {
    if (el.closest(".jupyter-widgets-disconnected")) lose();
  };
  model.on("comm_live_update", look);
  // ... but not for each way in which a kernel can go.
  const kernel = model.widget_manager?.kernel;
  const hear = (_, status) => {
    if (GONE.has(status)) lose();
  };
  kernel?.statusChanged?.connect(hear);
  kernel?.connectionStatusChanged?.connect(hear);

  return () => {
    window.removeEventListener("keydown", decide, true);
    model.off("comm_live_update", look);
    kernel?.statusChanged?.disconnect(hear);
    kernel?.connectionStatusChanged?.disconnect(hear);
  };
}

export default { render };
