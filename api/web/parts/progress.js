import { html } from "../html.js";
import { again, cancel, loadJob, remove } from "../actions.js";
import { can, retryJob } from "../api.js";
import { learn, select } from "../jobs.js";
import { isKnown, seconds, t, term } from "../i18n.js";

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

export function left(job) {
  const eta = job.status === "queued" ? job.queue?.eta_seconds : job.progress.eta_seconds;
  if (eta == null) return "";
  const since = (Date.now() - job.seenAt) / 1000;
  const rest = eta - since;
  // An estimate that has run out says nothing any more, and a minus even less.
  return rest >= 1 ? t(job.status === "queued" ? "left.start" : "left.end", { time: seconds(rest) }) : t("left.nearly");
}

export function Bar({ job, label }) {
  const isKnown = job.status === "running" && job.progress.percent > 0 && !["muxing", "uploading"].includes(job.stage);
  const percent = job.progress.percent;
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
  return html`
    <div class="failed" role=${isCanceled ? null : "alert"}>
      <h2>${t(isCanceled ? "status.canceled" : "failed.title")}</h2>
      ${!isCanceled && html`<p>${job.error?.message}</p>`}
      <p class="hint">${way}</p>
      <div class="row">
        <button type="button" class="primary" onClick=${() => (can.retry && !isCanceled ? retry(job) : again(job))}>${t("again")}</button>
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

async function retry(job) {
  const made = await retryJob(job.id).catch(() => null);
  if (!made) return again(job);
  learn([made], { isNews: false });
  return select(made.id);
}
