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

// A button that is pressed is disabled while its work is under way, and loses the focus to nobody:
// whoever has no mouse would have to walk there again. It comes back with the button.
function keepFocus(el) {
  let last = null;
  let waiting = null;
  const look = () => {
    const adrift = document.activeElement === document.body;
    if (last?.disabled && (adrift || document.activeElement === last)) waiting = last;
    if (waiting === null || waiting.disabled) return;
    if (adrift && waiting.isConnected) waiting.focus({ preventScroll: true });
    waiting = null;
  };
  const observer = new MutationObserver(look);
  const follow = (event) => {
    const root = rootOf(el);
    if (!root?.contains(event.target)) return;
    if (last === null) observer.observe(root, { subtree: true, attributeFilter: ["disabled"] });
    last = event.target;
  };
  window.addEventListener("focusin", follow, true);
  return () => {
    window.removeEventListener("focusin", follow, true);
    observer.disconnect();
  };
}

function render({ model, el }) {
  // On `window`, while the event is on its way down: JupyterLab listens at the document.
  // The key itself goes on to its control, also to those of ours that listen for it.
  const decide = (event) => {
    if (rootOf(el)?.contains(event.target)) event.target.toggleAttribute(SUPPRESSED, !passes(event));
  };
  window.addEventListener("keydown", decide, true);
  const letFocusGo = keepFocus(el);

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
    letFocusGo();
    model.off("comm_live_update", look);
    kernel?.statusChanged?.disconnect(hear);
    kernel?.connectionStatusChanged?.disconnect(hear);
  };
}

export default { render };
