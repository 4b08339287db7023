import { html, useEffect, useRef, useState } from "../html.js";
import { fileUrl } from "../api.js";
import { pose } from "../moves.js";
import { t } from "../i18n.js";
import { Icon } from "./icon.js";

export const Picture = ({ url, alt = "", isNear = true, ...more }) =>
  isNear && html`<img src=${url} alt=${alt} decoding="async" loading="lazy" ...${more} />`;

// What a model has made so far, drawn over the photo; the last one stays until the next is there.
export const Sketch = ({ job, alt = "" }) =>
  job.preview_url && html`<img class="sketch" src=${fileUrl(job, "preview")} alt=${alt} onLoad=${show(true)} onError=${show(false)} />`;

const show = (isThere) => (event) => (event.target.hidden = !isThere);

// Say whether an element has been near the screen.
export function useNear() {
  const [isNear, setNear] = useState(false);
  const at = useRef(null);
  useEffect(() => {
    const seer = new IntersectionObserver(
      ([entry]) => entry.isIntersecting && (setNear(true), seer.disconnect()),
      { rootMargin: "300px" },
    );
    seer.observe(at.current);
    return () => seer.disconnect();
  }, []);
  return [at, isNear];
}

// A photo under a moving camera, drawn by CSS alone: what the camera engine would make of it.
export function Camera({ url, moves, speed, aspect, more, alt = "", position = "50% 50%", origin, fit = "cover" }) {
  return html`
    <span class=${`camera ${moves.includes("handheld") ? "sways" : ""}`} style=${pose(moves, speed, { aspect, more })}>
      <img src=${url} alt=${alt} draggable=${false} style=${{ objectPosition: position, objectFit: fit, transformOrigin: origin }} />
    </span>`;
}

export function Dialog({ title, onClose, children, className = "" }) {
  const at = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    at.current.showModal();
    return () => before?.focus?.();
  }, []);
  const click = (event) => event.target === at.current && onClose();
  return html`
    <dialog ref=${at} class=${className} aria-label=${title} onClose=${onClose} onClick=${click}>
      <div class="dialog-body">
        <header><h2>${title}</h2><button type="button" class="icon" aria-label=${t("close")} onClick=${onClose}><${Icon} name="close" /></button></header>
        ${children}
      </div>
    </dialog>`;
}
