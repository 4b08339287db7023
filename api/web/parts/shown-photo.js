// The photo that was chosen, as the clip will show it.
import { html, useRef } from "../html.js";
import { frame, property, shapes, view } from "../form.js";
import { focusPhoto, movePhoto } from "../photos.js";
import { model, set, setForm, state } from "../state.js";
import { t } from "../i18n.js";
import "../send.js";
import { Choices } from "./control.js";

const STEP = 0.05;
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

// The photo in the clip's shape; what is cut off can be moved, by pointer and by arrow keys.
export function Shown({ photo, index }) {
  const of = model();
  const { aspect, differs } = frame(photo, of);
  const fit = state.form.values.fit || "crop";
  const canMove = differs && fit === "crop" && photo.width > 0;
  const canFocus = Boolean(property(of, "focus"));
  const grip = useRef(null);
  const own = photo.width / photo.height;
  const shows = view(photo, aspect);
  const drag = (event) => {
    if (!grip.current) return;
    const box = event.currentTarget.getBoundingClientRect();
    const spare = own > aspect ? [own / aspect - 1, 0] : [0, aspect / own - 1];
    const moved = [event.clientX - grip.current.x, event.clientY - grip.current.y];
    if (Math.hypot(...moved) > 3) grip.current.isDrag = true;
    if (!canMove) return;
    const x = spare[0] ? grip.current.from.x - moved[0] / (box.width * spare[0]) : photo.x;
    const y = spare[1] ? grip.current.from.y - moved[1] / (box.height * spare[1]) : photo.y;
    movePhoto(index, x, y);
  };
  const drop = (event) => {
    const wasClick = grip.current && !grip.current.isDrag;
    grip.current = null;
    if (!wasClick || !canFocus) return;
    const box = event.currentTarget.getBoundingClientRect();
    const point = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    focusPhoto(index, [round(shows.left + point[0] * shows.w), round(shows.top + point[1] * shows.h)]);
  };
  const press = (event) => {
    const isFocus = canFocus && (event.shiftKey || !canMove);
    if (!ARROWS[event.key] || !(canMove || isFocus)) return;
    event.preventDefault();
    const [x, y] = isFocus ? (photo.focus ?? [shows.left + shows.w / 2, shows.top + shows.h / 2]) : [photo.x, photo.y];
    const to = [x + ARROWS[event.key][0], y + ARROWS[event.key][1]];
    if (isFocus) focusPhoto(index, to.map(round));
    else movePhoto(index, ...to);
  };
  const style = { aspectRatio: String(aspect), maxWidth: `calc(var(--well-height) * ${aspect.toFixed(4)})` };
  const look = { objectFit: fit === "crop" ? "cover" : "contain", objectPosition: `${photo.x * 100}% ${photo.y * 100}%` };
  const isNarrow = aspect < 1; // Words over it would hide it.
  const help = canMove ? t(canFocus ? "photo.both" : "photo.move") : canFocus ? t("photo.focus") : null;
  if (!photo.width) return html`<div class="shown is-blind"><p>${t("photo.blind", { name: photo.name })}</p></div>`;
  return html`
    <div class=${`shown ${canMove ? "can-move" : ""}`} style=${style} tabindex=${help ? 0 : null} role=${help ? "group" : null} aria-label=${help && canFocus ? `${help}. ${t(canMove ? "photo.bothKeys" : "photo.focusKeys")}` : help}
      onPointerDown=${(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        grip.current = { x: event.clientX, y: event.clientY, from: photo };
      }}
      onPointerMove=${drag} onPointerUp=${drop} onPointerCancel=${() => (grip.current = null)} onKeyDown=${press}>
      ${fit === "blur" && html`<img class="behind" src=${photo.url} alt="" />`}
      <img src=${photo.url} alt=${t("photo.alt")} draggable=${false} style=${look} />
      ${canFocus && photo.focus && html`<i class="focus" style=${{ left: part(photo.focus[0], shows.left, shows.w), top: part(photo.focus[1], shows.top, shows.h) }}></i>`}
      ${help && !isNarrow && !photo.focus && html`<span class="over">${help}</span>`}
    </div>
    ${help && isNarrow && html`<p class="hint">${help}</p>`}`;
}
const part = (at, from, whole) => `${((at - from) / whole) * 100}%`;
const round = (part) => Math.round(part * 1000) / 1000;

export function Strip() {
  const { photos, current } = state;
  return html`<div class="strip">
    ${photos.map((photo, at) => html`<button type="button" key=${photo.url} aria-pressed=${at === current} aria-label=${t("photo.nth", { n: at + 1 })} onClick=${() => set({ current: at })}><img src=${photo.url} alt="" /></button>`)}
  </div>`;
}

export function Shape({ photo }) {
  const of = model();
  const fits = property(of, "fit")?.enum || [];
  const { differs } = frame(photo, of);
  if (photo.jobId || !photo.width) return null;
  return html`
    <${Choices} name="shape" title=${t("shape")} value=${state.form.shape} options=${shapes(of)} say=${(name) => name || t(Object.keys(of.buckets || {}).length ? "shape.near" : "shape.own")} onChange=${(shape) => setForm({ shape })} />
    ${differs && fits.length > 1 && html`<${Choices} name="fit" title=${t("field.fit")} value=${state.form.values.fit || "crop"} options=${fits} onChange=${(fit) => setForm({ values: { ...state.form.values, fit } })} />`}`;
}

