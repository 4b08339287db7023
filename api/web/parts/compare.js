import { html, useEffect, useRef } from "../html.js";
import { fileUrl } from "../api.js";
import { select } from "../jobs.js";
import { state, useStore } from "../state.js";
import { t } from "../i18n.js";
import { Dialog } from "./media.js";

const DRIFT_SECONDS = 0.06;
const LOOK_MS = 200;

// Clips that were sent together, side by side and in step.
export function Compare({ jobs, onClose }) {
  useStore();
  const at = useRef(null);
  useEffect(() => {
    const keepStep = () => {
      const [first, ...rest] = at.current?.querySelectorAll("video") ?? [];
      for (const video of rest) {
        if (Math.abs(video.currentTime - first.currentTime) > DRIFT_SECONDS) video.currentTime = first.currentTime;
      }
    };
    const clock = setInterval(keepStep, LOOK_MS);
    return () => clearInterval(clock);
  }, []);
  const shown = jobs.map((id) => state.jobs.get(id)).filter(Boolean);
  return html`
    <${Dialog} title=${t("compare", { n: shown.length })} onClose=${onClose} className="wide">
      <div class="compare" ref=${at}>${shown.map((job) => html`<${One} key=${job.id} job=${job} />`)}</div>
    <//>`;
}

function One({ job }) {
  return html`
    <figure>
      <video src=${fileUrl(job)} autoplay muted loop playsinline aria-label=${job.input.prompt || t("clip")}></video>
      <figcaption><span class="hint">${t("field.seed")} ${job.seed}</span><button type="button" class="link" onClick=${() => select(job.id)}>${t("open")}</button></figcaption>
    </figure>`;
}
