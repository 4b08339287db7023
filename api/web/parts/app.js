import { html, useEffect } from "../html.js";
import { lazy } from "../lazy.js";
import { liveJobs, set, state, useStore } from "../state.js";
import { t } from "../i18n.js";
import { Composer } from "./composer.js";
import { Header } from "./header.js";
import { Stage } from "./stage.js";
import { Toasts } from "./toasts.js";
import { addFiles } from "../photos.js";

// What a cold page does not show comes when it does.
const Admin = lazy(() => import("./admin.js"), "Admin");
const Library = lazy(() => import("./library.js"), "Library");
const Queue = lazy(() => import("./queue.js"), "Queue");
const SignIn = lazy(() => import("./sign-in.js"), "SignIn");
const TabProgress = lazy(() => import("./tab-progress.js"), "TabProgress");
const DIALOGS = {
  compare: lazy(() => import("./compare.js"), "Compare"),
  code: lazy(() => import("./code.js"), "Code"),
};

let wasBusy = false;

export function App() {
  const { phase, view, dialog, isOnline, announcement } = useStore();
  useDropAndPaste();
  const Dialog = DIALOGS[dialog?.name];
  return html`
    ${phase === "ready" && view === "studio" && html`<a class="skip" href="#make" onClick=${skip}>${t(samples() ? "skip.samples" : "skip")}</a>`}
    <${Header} />
    ${(!isOnline || phase === "unreachable") && html`<p class="banner" role="status">${t("offline")}</p>`}
    ${phase === "starting" && html`<main class="starting" aria-busy="true"><h1 class="visually-hidden">Stillreel</h1></main>`}
    ${phase === "unreachable" && html`<main class="starting"><h1 class="visually-hidden">Stillreel</h1></main>`}
    ${phase === "sign-in" && html`<${SignIn} />`}
    ${phase === "ready" && (view === "admin" ? html`<${Admin} />` : html`<${Studio} />`)}
    ${Dialog && html`<${Dialog} ...${dialog} onClose=${() => set({ dialog: null })} />`}
    ${phase === "ready" && (wasBusy ||= liveJobs().length > 0) && html`<${TabProgress} />`}
    <${Toasts} />
    <p class="visually-hidden" aria-live="polite">${announcement}</p>`;
}

// Where the focus was last: what is removed leaves it to the part it was in, not to the page's top.
let focused = null;
addEventListener("focusin", ({ target }) => (focused = { target, part: target.closest("section") }));

function keepFocus() {
  if (document.activeElement !== document.body || !focused || focused.target.isConnected) return;
  (focused.part?.isConnected ? focused.part : document.getElementById("make"))?.focus({ preventScroll: true });
}

function Studio() {
  useEffect(keepFocus);
  return html`
    <main class="studio">
      <h1 class="visually-hidden">${t("title")}</h1>
      <${Composer} />
      <div class="show">
        <${Stage} />
        ${liveJobs().length > 0 && html`<${Queue} />`}
        ${state.jobs.size > 0 && html`<${Library} />`}
      </div>
    </main>`;
}

// A link to a part of the page would end up in the address, where the job shown stands.
function skip(event) {
  event.preventDefault();
  const [sample] = samples() ? [...document.querySelectorAll(".sample, .narrow-samples button")].filter((each) => each.checkVisibility()) : [];
  (sample || document.getElementById("make"))?.focus();
}

// Whether the page shows its sample photos.
const samples = () => !state.photos.length && !state.selected && state.models.length > 0;

function useDropAndPaste() {
  useEffect(() => {
    const isOurs = () => state.phase === "ready" && state.view === "studio" && !state.dialog;
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files") || !isOurs()) return;
      event.preventDefault();
      set({ isDropping: true });
    };
    const leave = (event) => !event.relatedTarget && set({ isDropping: false });
    const drop = (event) => {
      set({ isDropping: false });
      if (!event.dataTransfer?.files.length || !isOurs()) return;
      event.preventDefault();
      addFiles(event.dataTransfer.files);
    };
    const paste = (event) => {
      if (event.clipboardData?.files.length && isOurs()) addFiles(event.clipboardData.files);
    };
    const heard = { dragover: over, dragleave: leave, drop, paste };
    for (const [name, listener] of Object.entries(heard)) addEventListener(name, listener);
    return () => Object.entries(heard).forEach(([name, listener]) => removeEventListener(name, listener));
  }, []);
}
