// The queue tray: all of the caller's jobs, from any device, as the server has them.
import { html, useEffect, useState } from "../html.js";
import { fileUrl, readBatch } from "../api.js";
import { again, cancel, cancelBatch, loadJob } from "../actions.js";
import { select } from "../jobs.js";
import { keptPhoto } from "../photos.js";
import { liveJobs, set, setName, state, useStore } from "../state.js";
import { t } from "../i18n.js";
import { Picture, Sketch, useNear } from "./media.js";
import { Bar, doing, left } from "./progress.js";

export function Queue() {
  useStore();
  const live = liveJobs();
  const canTell = "Notification" in window && window.isSecureContext && Notification.permission === "default";
  return html`
    <section class="queue" id="queue" tabindex="-1" aria-label=${t("queue")}>
      <header class="row"><h2>${t("queue")}</h2><span class="grow"></span>
        ${canTell && html`<button type="button" class="link" onClick=${() => Notification.requestPermission().then(() => set({}))}>${t("notify")}</button>`}
      </header>
      <${Together} live=${live} />
      <ul>${live.map((job) => html`<${Row} key=${job.id} job=${job} />`)}</ul>
    </section>`;
}

// One progress for jobs that were sent together.
function Together({ live }) {
  const names = [...new Set(live.map(setName).filter(Boolean))];
  return names.map((name) => html`<${Sent} key=${name} name=${name} live=${live.filter((job) => setName(job) === name)} />`);
}

function Sent({ name, live }) {
  const batch = live[0].metadata?.set ? null : name;
  const [told, setTold] = useState(null);
  const all = [...state.jobs.values()].filter((job) => setName(job) === name);
  const stands = live.map((job) => job.status).join();
  useEffect(() => {
    let isWanted = true;
    if (batch) readBatch(batch).then((news) => isWanted && setTold(news), () => {});
    return () => (isWanted = false);
  }, [batch, stands]);
  const total = told?.counts.total ?? all.length;
  const done = told ? total - told.counts.queued - told.counts.running : all.length - live.length;
  const words = t("batch.progress", { k: done, n: total });
  return html`<div class="together">
    <span>${words}</span>
    <progress max="100" value=${told ? told.progress.percent : (100 * done) / total} aria-label=${words}></progress>
    <button type="button" class="link" onClick=${() => (batch ? cancelBatch(batch) : live.forEach(cancel))}>${t("batch.cancel")}</button>
  </div>`;
}

function Row({ job }) {
  const [at, isNear] = useNear();
  const isShown = state.selected === job.id;
  return html`
    <li ref=${at} class=${isShown ? "is-shown" : ""}>
      <button type="button" class="queue-job" aria-current=${isShown ? "true" : null} onClick=${() => select(job.id)}>
        <span class="mini"><${Picture} url=${keptPhoto(job.id) || fileUrl(job, "input")} isNear=${isNear} />${isNear && html`<${Sketch} job=${job} />`}</span>
        <span class="queue-words">
          <span class="queue-prompt">${job.input.prompt || t("prompt.none")}</span>
          <span class="hint">${doing(job)}${left(job) ? ` · ${left(job)}` : ""}</span>
          <${Bar} job=${job} label=${job.input.prompt || job.id} />
        </span>
      </button>
      <div class="row-tools">
        <button type="button" class="quiet" onClick=${() => again(job)}>${t("duplicate")}</button>
        <button type="button" class="quiet" onClick=${() => loadJob(job, { seed: job.seed })}>${t("reuse")}</button>
        <button type="button" class="quiet" onClick=${() => cancel(job)}>${t("cancel")}</button>
      </div>
    </li>`;
}
