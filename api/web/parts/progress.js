import { html } from "../html.js";
import { again, cancel, loadJob, remove } from "../actions.js";
import { isPaused, state } from "../state.js";
import { isKnown, seconds, t, term } from "../i18n.js";

// How far a job is, in percent. An engine that draws frames and generates nothing draws them all the
// time, and not only at the end, as a model does.
export function percentOf({ model: name, stage, progress }) {
  const isDrawn = stage === "decoding" && state.models.find((each) => each.id === name)?.ai_generated === false;
  return isDrawn ? 5 + Math.floor((91 * progress.step) / progress.total_steps) : progress.percent;
}

// What a job is doing now, in words.
export function doing(job) {
  if (job.status === "queued") {
    const place = job.queue?.position;
    return place ? t("queue.place", { n: place }) : t("status.queued");
  }
  const { step, total_steps: total } = job.progress;
  const stage = job.stage ? term("stage", job.stage) : t("status.running");
  return step && total && job.stage !== "loading" ? `${stage} · ${t("step", { k: step, n: total })}` : stage;
}

// When it starts and ends, as the server expects it; an estimate that has run out says nothing any
// more, and a minus even less.
export function left(job) {
  if (!state.isOnline) return ""; // What was told no longer holds.
  const isQueued = job.status === "queued";
  if (isQueued && isPaused(job.model)) return t("queue.paused");
  const eta = isQueued ? job.queue?.eta_seconds : (job.progress.eta_seconds ?? until(job.expected?.end_at, job.seenAt));
  if (eta == null) return "";
  const rest = eta - (Date.now() - job.seenAt) / 1000;
  if (rest < 1) return t("left.nearly");
  if (!isQueued) return t("left.end", { time: seconds(rest) });
  const { start_at: start, end_at: end } = job.expected || {};
  if (!end) return t("left.start", { time: seconds(rest) });
  return t("expect.wait", { start: seconds(rest), end: seconds(rest + until(end, Date.parse(start))) });
}

const until = (end, from) => (end ? (Date.parse(end) - from) / 1000 : null);

export function Bar({ job, label }) {
  const percent = percentOf(job);
  const isKnown = job.status === "running" && percent > 0 && !["muxing", "uploading"].includes(job.stage);
  return html`
    <div class=${`bar ${isKnown ? "" : "is-open"} ${job.status}`} role="progressbar" aria-label=${label || doing(job)} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${isKnown ? percent : null}>
      <i style=${{ "--done": isKnown ? percent / 100 : 0 }}></i>
    </div>`;
}

export function Progress({ job }) {
  return html`
    <div class="progress">
      <p class="progress-line"><strong>${doing(job)}</strong><span>${left(job)}</span></p>
      <${Bar} job=${job} />
      <div class="row">
        <span class="hint">${t("close.safe")}</span><span class="grow"></span>
        <button type="button" class="quiet" onClick=${() => cancel(job)}>${t("cancel")}</button>
      </div>
    </div>`;
}

// A job that ended without a clip: what happened, and the way out.
export function Failed({ job }) {
  const isCanceled = job.status === "canceled";
  const way = isCanceled ? t("canceled.way") : wayOut(job);
  const seller = state.models.find((each) => each.id === job.model)?.hosted?.provider;
  // Nobody knows better in the first moments, and a job that never ran was bought by nobody.
  const mayCost = isCanceled && seller && job.started_at && (job.metrics?.ended_elsewhere?.may_still_cost ?? true);
  return html`
    <div class="failed" role=${isCanceled ? null : "alert"}>
      <h2>${t(isCanceled ? "status.canceled" : "failed.title")}</h2>
      ${!isCanceled && html`<p>${job.error?.message}</p>`}
      <p class="hint">${way}${mayCost && ` ${t("canceled.mayCost", { provider: seller })}`}</p>
      <div class="row">
        <button type="button" class="primary" onClick=${() => again(job)}>${t("again")}</button>
        <button type="button" class="quiet" onClick=${() => loadJob(job, { seed: job.seed })}>${t("reuse")}</button>
        <button type="button" class="quiet" onClick=${() => remove(job)}>${t("delete")}</button>
      </div>
    </div>`;
}

function wayOut(job) {
  const name = `way.${job.error?.code}`;
  if (isKnown(name)) return t(name);
  return t(job.error?.retryable ? "way.retry" : "way.other");
}
