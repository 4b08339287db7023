// Right, on top: the clip, or the way to it.
import { html } from "../html.js";
import { lazy } from "../lazy.js";
import { frame } from "../form.js";
import { SAMPLES, chooseSample, keptPhoto } from "../photos.js";
import { fileUrl, path } from "../api.js";
import { isLive, model, state, useStore } from "../state.js";
import { t } from "../i18n.js";
import { usesMoves } from "./composer.js";
import { Camera, Picture, Sketch } from "./media.js";
import { Preview } from "./move-picker.js";

const Failed = lazy(() => import("./progress.js"), "Failed");
const Progress = lazy(() => import("./progress.js"), "Progress");
const Viewer = lazy(() => import("./viewer.js"), "Viewer");

export function Stage() {
  const { selected, jobs, photos, current, isListed } = useStore();
  const job = jobs.get(selected);
  return html`<section class="stage" tabindex="-1" aria-label=${t("stage")}>${content()}</section>`;

  function content() {
    if (job?.status === "succeeded") return html`<${Viewer} key=${job.id} job=${job} meanwhile=${html`<${Frame} aspect=${job.input.width / job.input.height} />`} />`;
    if (job && isLive(job)) return html`<${Rendering} job=${job} />`;
    if (job) return html`<${Frame} aspect=${job.input.width / job.input.height} className="is-ended"><${Photo} job=${job} /><${Failed} job=${job} /><//>`;
    if (selected && !isListed) return html`<${Frame} aspect=${1.5} />`;
    if (photos[current]) return html`<${Ready} photo=${photos[current]} />`;
    return html`<${Empty} />`;
  }
}

export function Frame({ aspect, children, className = "" }) {
  const style = { "--aspect": aspect.toFixed(4) };
  return html`<div class=${`frame ${className}`} style=${style}>${children}</div>`;
}

const Photo = ({ job }) => html`<${Picture} url=${keptPhoto(job.id) || fileUrl(job, "input")} />`;

function Ready({ photo }) {
  const of = model();
  const { aspect } = frame(photo, of);
  if (!photo.width) return html`<${Frame} aspect=${1.5} className="is-ready"><p class="over">${photo.name}</p><//>`;
  return html`
    <${Frame} aspect=${aspect} className="is-ready">
      ${usesMoves(of)
        ? html`<${Preview} photo=${photo} of=${of} />`
        : html`<img src=${photo.url} alt=${t("photo.alt")} style=${{ objectPosition: `${photo.x * 100}% ${photo.y * 100}%` }} />`}
      <p class="over">${t(usesMoves(of) ? "preview.camera" : "preview.model")}</p>
    <//>`;
}

function Rendering({ job }) {
  return html`
    <${Frame} aspect=${job.input.width / job.input.height} className="is-rendering">
      <${Photo} job=${job} />
      <${Sketch} job=${job} alt=${t("preview.now")} />
      <${Progress} job=${job} />
    <//>`;
}

function Empty() {
  return html`
    <div class="empty">
      <h2>${t("empty.title")}</h2>
      <p>${t("empty.how")}</p>
      <div class="samples">
        ${SAMPLES.map(
          (sample) => html`
            <button type="button" class="sample" key=${sample.name} onClick=${() => chooseSample(sample)}>
              <span class="thumb"><${Camera} url=${path(`web/samples/${sample.name}.jpg`)} moves=${sample.moves} speed=${sample.speed} more=${1.3} /></span>
              <span class="sample-name"><strong>${t(`sample.${sample.name}`)}</strong><small>${sample.moves.map((name) => t(`move.${name}`)).join(" + ")}</small></span>
            </button>`,
        )}
      </div>
      <ol class="steps">${[1, 2, 3].map((n) => html`<li><b>${n}</b><span>${t(`empty.step${n}`)}</span></li>`)}</ol>
    </div>`;
}
