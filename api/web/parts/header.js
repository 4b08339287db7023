import { html } from "../html.js";
import * as api from "../api.js";
import { restart, soon } from "../jobs.js";
import { forgetPhotos } from "../photos.js";
import { liveJobs, set, setForm, useStore } from "../state.js";
import { LANGUAGES, language, setLanguage, t } from "../i18n.js";

export function Header() {
  const { phase, view, queue, who } = useStore();
  const live = phase === "ready" ? liveJobs().length : 0;
  const workers = queue?.totals.workers;
  return html`
    <header class="top">
      <a class="brand" href=${api.path("")} onClick=${go("studio")} aria-label=${t("home")}>
        <img src=${api.path("web/icon.svg")} alt="" width="26" height="26" />
        <span>Stillreel</span>
      </a>
      <span class="grow"></span>
      ${phase === "ready" && view === "studio" &&
      html`<a class=${`pill ${live ? "is-busy" : ""}`} href="#queue" onClick=${toQueue}>
        <i class=${workers === 0 || queue?.is_paused ? "dot bad" : "dot"}></i>
        ${queue?.is_paused ? t("queue.paused") : workers === 0 ? t("workers.none") : live ? t("queue.count", { n: live }) : t("queue.idle")}
      </a>`}
      <nav aria-label=${t("nav")}>
        ${who?.is_admin && html`<a href=${api.path("admin")} onClick=${go("admin")} aria-current=${view === "admin" ? "page" : null}>${t("nav.admin")}</a>`}
        <a href=${api.path("docs")}>API</a>
      </nav>
      <label class="language">
        <span class="visually-hidden">${t("language")}</span>
        <select value=${language} onChange=${(event) => choose(event.target.value)}>
          ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} selected=${code === language}>${name}</option>`)}
        </select>
      </label>
      ${who?.how === "session" && phase === "ready" &&
      html`<button class="quiet" type="button" title=${who.name} onClick=${leave}>${t("signOut")}</button>`}
    </header>`;
}

async function choose(code) {
  await setLanguage(code);
  set({});
}

const go = (view) => (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  // Without a load: the form, the photos and the stream stay.
  history.pushState(null, "", view === "admin" ? api.path("admin") : api.path(""));
  set({ view, selected: null });
  soon(0);
  scrollTo(0, 0);
};

function toQueue(event) {
  event.preventDefault();
  document.getElementById("queue")?.scrollIntoView({ block: "center" });
}

async function leave() {
  await api.signOut();
  // Whoever sits here next does not find what was being made.
  forgetPhotos();
  setForm({ prompt: "", values: {}, preset: null, shape: "", seed: null });
  set({ phase: "sign-in", signInError: null, who: null });
  history.replaceState(null, "", location.pathname);
  restart();
}
