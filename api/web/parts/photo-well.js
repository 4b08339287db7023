import { html, useRef } from "../html.js";
import { path } from "../api.js";
import { lazy } from "../lazy.js";
import { SAMPLES, addFiles, chooseSample, focusPhoto, removePhoto } from "../photos.js";
import { state } from "../state.js";
import { t } from "../i18n.js";

const Shown = lazy(() => import("./shown-photo.js"), "Shown");
const Strip = lazy(() => import("./shown-photo.js"), "Strip");

const hasCamera = matchMedia("(pointer: coarse)").matches;

export function PhotoWell() {
  const { photos, current, isReading } = state;
  const photo = photos[current];
  const files = useRef(null);
  const camera = useRef(null);
  const hear = (event) => {
    if (event.target.files.length) addFiles(event.target.files);
    event.target.value = "";
  };
  return html`
    <div class="well">
      <input hidden ref=${files} type="file" accept="image/*,video/mp4,.heic,.heif" multiple onChange=${hear} data-for="photos" />
      ${hasCamera && html`<input hidden ref=${camera} type="file" accept="image/*" capture="environment" onChange=${hear} />`}
      ${photo
        ? html`<${Shown} photo=${photo} index=${current} />
            <div class="well-tools">
              <button type="button" class="quiet" onClick=${() => files.current.click()}>${t("photo.other")}</button>
              ${photos.length > 1 && html`<span class="hint">${t("photo.count", { n: photos.length })}</span>`}
              <span class="grow"></span>
              ${photo.focus && html`<button type="button" class="quiet" onClick=${() => focusPhoto(current, null)}>${t("photo.unfocus")}</button>`}
              <button type="button" class="quiet" onClick=${() => removePhoto(current)}>${t("photo.remove")}</button>
            </div>
            ${photos.length > 1 && html`<${Strip} />`}
`
        : html`<div class="drop">
            <button type="button" class="drop-button" onClick=${() => files.current.click()}>
              <svg viewBox="0 0 48 40" width="48" height="40" aria-hidden="true"><rect x="3" y="3" width="42" height="34" rx="5" /><circle cx="14" cy="14" r="4" /><path d="M4 32l12-11 8 7 9-10 11 11" /></svg>
              <strong>${t(isReading ? "photo.reading" : "photo.choose")}</strong>
              <span>${t(hasCamera ? "photo.howHere" : "photo.how")}</span>
            </button>
            ${hasCamera && html`<button type="button" class="take" onClick=${() => camera.current.click()}>${t("photo.take")}</button>`}
            <div class="narrow-samples">
              <p class="hint">${t("empty.how")}</p>
              <div class="row">${SAMPLES.map((sample) => html`<button type="button" onClick=${() => chooseSample(sample)}><img src=${path(`web/samples/${sample.name}.jpg`)} alt="" /><span>${t(`sample.${sample.name}`)}</span></button>`)}</div>
            </div>
          </div>`}
    </div>`;
}
