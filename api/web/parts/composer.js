// Left: the photo, the words, the settings, and the one big button.
import { html, useEffect, useState } from "../html.js";
import { chooseModel, furtherNames, hindrance, presets, property, value } from "../form.js";
import { explained } from "../jobs.js";
import { isPaused, model, setForm, state, useStore } from "../state.js";
import { bytes } from "../format.js";
import { isKnown, number, t, term } from "../i18n.js";
import { Choices, Control } from "./control.js";
import { MovePicker } from "./move-picker.js";
import { PhotoWell } from "./photo-well.js";
import { Prompt } from "./prompt.js";
import { lazy } from "../lazy.js";

export const usesMoves = (of) => of.uses_prompt && !of.ai_generated && of.id === "camera";

export function Composer() {
  const { models, photos, current, isSending, sendError } = useStore();
  useShortcut();
  if (!models.length) return html`<section class="make" id="make" tabindex="-1"><${NoWorker} /></section>`;
  const of = model();
  const photo = photos[current];
  const problem = hindrance(photos, of);
  const many = photos.length > 1;
  return html`
    <section class="make" id="make" tabindex="-1" aria-label=${t("make")}>
      <div class="make-body">
        <${PhotoWell} />
        ${models.length > 1 && html`<${Model} of=${of} />`}
        <${Prompt} of=${of} />
        ${usesMoves(of) && html`<${MovePicker} photo=${photo} />`}
        <${Basics} of=${of} />
        ${photo && html`<${Shape} photo=${photo} />`}
        ${models.length === 1 && html`<${Model} of=${of} />`}
        <${Further} of=${of} />
      </div>
      <div class="send">
        ${sendError && html`<p class="error" role="alert">${explained(sendError)}</p>`}
        ${problem && html`<${Obstacle} problem=${problem} of=${of} />`}
        ${isPaused(of.id) && html`<p class="hint warn">${t("queue.pausedWhy")}</p>`}
        ${of.workers === 0 && html`<p class="hint warn">${t("workers.start")}</p>`}
        ${of.weights && of.weights.state !== "ready" && html`<${Weights} of=${of.weights} />`}
        <button type="button" class="primary big" disabled=${!photo || Boolean(problem)} aria-disabled=${isSending} onClick=${() => submit()}>
          ${isSending ? t("send.sending") : many ? t("send.many", { n: photos.length }) : t("send")}
        </button>
        <p class="hint send-note">${photo ? html`<${Expected} of=${of} photo=${photo} />` : t("send.needsPhoto")}<kbd>${isMac ? "⌘" : "Ctrl"} ↵</kbd></p>
      </div>
    </section>`;
}

// It came with the photo's own part: nothing can be sent before.
const submit = () => import("../send.js").then((file) => file.submit());
const Expected = lazy(() => import("./expected.js"), "Expected");
const Obstacle = lazy(() => import("./expected.js"), "Obstacle");
const Shape = lazy(() => import("./shown-photo.js"), "Shape");
const Seed = lazy(() => import("./seed.js"), "Seed");
const isMac = /Mac|iP(?:hone|ad)/.test(navigator.platform);

function useShortcut() {
  useEffect(() => {
    const press = (event) => {
      if (event.key !== "Enter" || !(event.metaKey || event.ctrlKey) || state.dialog || state.view !== "studio") return;
      event.preventDefault();
      if (state.photos.length && !hindrance(state.photos)) submit();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

function Weights({ of }) {
  const { state: stands, bytes_done: done, bytes_total: total, message } = of;
  const said = stands === "downloading" && total
    ? t("weights.downloading", { percent: number(Math.floor((100 * done) / total), 0), size: bytes(total) })
    : t("weights.missing", { why: message || t("weights.unknown") });
  return html`<p class="hint warn weights" role="status">${said}</p>`;
}

const NoWorker = () => html`<div class="make-body empty-note"><h2>${t("workers.none")}</h2><p>${t("workers.start")}</p><code>python -m worker</code></div>`;

function Model({ of }) {
  const { models } = state;
  const terms = isKnown(`licence.${of.licence.commercial_use}`) ? t(`licence.${of.licence.commercial_use}`) : "";
  const facts = [
    of.vram_bytes ? t("model.memory", { n: number(of.vram_bytes / 2 ** 30, 0) }) : t("model.anyMachine"),
    of.uses_prompt ? (of.ai_generated ? t("model.reads") : t("model.readsMoves")) : t("model.ignores"),
  ];
  return html`
    <div class="model">
      ${models.length > 1
        ? html`<label for="model">${t("model")}</label>
            <select id="model" value=${of.id} onChange=${(e) => chooseModel(e.target.value)}>
              ${models.map((each) => html`<option value=${each.id} selected=${each.id === of.id}>${title(each)}${each.workers ? "" : ` · ${t("model.asleep")}`}</option>`)}
            </select>`
        : html`<h2>${title(of)}</h2>`}
      <p class="hint" title=${of.licence.note}>
        ${!of.ai_generated && html`<b class="tag">${t("notAi")}</b> `}${facts.join(" · ")} ·${" "}
        ${of.licence.url ? html`<a href=${of.licence.url} rel="noreferrer" target="_blank">${of.licence.name}</a>` : of.licence.name}, ${terms}
      </p>
      ${of.hosted && html`<p class="hint hosted"><b>${t("model.sentOut", { provider: of.hosted.provider, usd: number(of.hosted.usd_per_second, 3) })}</b></p>`}
    </div>`;
}
const title = (of) => term("engine", of.id) === of.id.replaceAll("_", " ") ? of.title : term("engine", of.id);

const change = (name) => (next) => setForm({ values: { ...state.form.values, [name]: next } });

function Basics({ of }) {
  const { form } = state;
  const offered = presets(of);
  const resolution = property(of, "resolution");
  // With none chosen, the one that the settings are as they stand.
  const isAsSet = ({ values }) => Object.entries(values).every(([name, each]) => value(name, of) === each);
  const chosen = form.preset || offered.find(isAsSet)?.id;
  const choose = (id) => {
    const { negative_prompt, fit } = form.values; // These are about the image, not the effort.
    const kept = Object.fromEntries(Object.entries({ negative_prompt, fit }).filter(([, each]) => each !== undefined));
    setForm({ preset: id, values: kept });
  };
  return html`
    ${offered.length > 0 &&
    html`<${Choices} name="preset" title=${t("preset")} value=${chosen} options=${offered.map(({ id }) => id)}
      say=${(id) => term("preset", offered.find((each) => each.id === id).name)} onChange=${choose} />`}
    <${Length} of=${of} />
    ${resolution &&
    html`<${Choices} name="resolution" title=${t("field.resolution")} value=${value("resolution", of)} options=${resolution.enum} onChange=${change("resolution")} />`}`;
}

// The length in seconds; the server counts frames, and this says how many.
function Length({ of }) {
  const frames = property(of, "num_frames");
  if (!frames) return null;
  const fps = value("fps", of);
  const show = (n) => t("length.of", { s: number(n / fps), n });
  return html`<${Control} name="num_frames" schema=${frames} value=${value("num_frames", of)} show=${show} onChange=${change("num_frames")} />`;
}

function Further({ of }) {
  const [isOpen, setOpen] = useState(false);
  const names = furtherNames(of);
  return html`
    <details class="further" open=${isOpen} onToggle=${(event) => setOpen(event.target.open)}>
      <summary>${t("further")}</summary>
      ${isOpen && html`<div class="further-body">
        ${names.map((name) => html`<${Control} key=${name} name=${name} schema=${property(of, name)} value=${value(name, of)} onChange=${change(name)} />`)}
        <${Seed} />
      </div>`}
    </details>`;
}
