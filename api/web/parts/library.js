// What was made: from the server, newest first, as far back as one scrolls.
import { Component, h, html, useEffect, useRef, useState } from "../html.js";
import { fileUrl } from "../api.js";
import { remove } from "../actions.js";
import { readMore, select } from "../jobs.js";
import { filterKey, set, shownJobs, state, useStore } from "../state.js";
import { when } from "../format.js";
import { language, t } from "../i18n.js";
import { Icon } from "./icon.js";
import { Picture, useNear } from "./media.js";

const NEAR_PX = 600;
const FLOOR_MS = 1000;
const TYPING_MS = 300;
const FILTERS = ["", "succeeded", "failed", "canceled"];

let typing = 0;

// The server looks through thousands: once for what was typed, not for each letter.
function search(q) {
  clearTimeout(typing);
  typing = setTimeout(() => set({ filter: { ...state.filter, q } }), TYPING_MS);
}

export function Library() {
  const { isListed, cursors, filter, selected, jobs } = useStore();
  const shown = shownJobs();
  const cursor = cursors[filterKey(filter)] || { hasMore: true };
  if (!isListed || (!jobs.size && !filter.q && !filter.status)) return null;
  return html`
    <section class="library" tabindex="-1" aria-label=${t("library")}>
      <header class="row">
        <h2>${t("library")}</h2><span class="grow"></span>
        <input type="search" aria-label=${t("search")} placeholder=${t("search")} value=${filter.q} maxlength="200" onInput=${(event) => search(event.target.value.trim())} />
        <select aria-label=${t("filter")} value=${filter.status} onChange=${(event) => set({ filter: { ...filter, status: event.target.value } })}>
          ${FILTERS.map((status) => html`<option value=${status} selected=${status === filter.status}>${t(status ? `status.${status}` : "filter.all")}</option>`)}
        </select>
      </header>
      ${!shown.length && !cursor.hasMore && html`<p class="hint">${t("library.none")}</p>`}
      ${cursor.isCut && !cursor.hasMore && html`<p class="hint">${t("search.cut")}</p>`}
      <ul class="grid">${shown.map((job) => html`<${Card} key=${job.id} version=${job.version} job=${job} isShown=${job.id === selected} language=${language} />`)}</ul>
      <${More} key=${filterKey(filter)} cursor=${cursor} count=${shown.length} />
    </section>`;
}

// Read on when the end comes near.
function More({ cursor, count }) {
  const end = useRef(null);
  useEffect(() => {
    if (!cursor.hasMore || cursor.isLoading) return undefined;
    const seer = new IntersectionObserver(([entry]) => entry.isIntersecting && readMore(), { rootMargin: `${NEAR_PX}px` });
    seer.observe(end.current);
    // A busy browser may be late to say so, or never.
    const floor = setInterval(() => end.current.getBoundingClientRect().top < innerHeight + NEAR_PX && readMore(), FLOOR_MS);
    return () => {
      seer.disconnect();
      clearInterval(floor);
    };
  }, [cursor.hasMore, cursor.isLoading, cursor.after, count]);
  return html`<p class="more hint" ref=${end}>${cursor.isLoading ? t("library.more") : ""}</p>`;
}

// Draw a component again only when one of its properties is another one.
export function memo(draw) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = Object.keys({ ...next, ...this.props });
      return names.some((name) => name !== "children" && next[name] !== this.props[name]);
    }
    render(props) {
      return h(draw, props);
    }
  };
}

const Card = memo(function Card({ job, isShown }) {
  const [at, isNear] = useNear();
  const [isOver, setOver] = useState(false);
  const isDone = job.status === "succeeded";
  const style = { "--aspect": (job.input.width / job.input.height).toFixed(3) };
  return html`
    <li ref=${at} class=${`clip ${isShown ? "is-shown" : ""} ${job.status}`} style=${style}
      onPointerEnter=${() => setOver(true)} onPointerLeave=${() => setOver(false)}>
      <button type="button" class="clip-open" aria-current=${isShown ? "true" : null} onClick=${() => select(job.id)} onFocus=${() => setOver(true)} onBlur=${() => setOver(false)}>
        <span class="clip-picture">
          ${isDone && job.output.poster
            ? html`<${Picture} url=${fileUrl(job, "poster")} isNear=${isNear} />`
            : isDone ? isNear && html`<${Playing} job=${job} isStill=${true} />`
            : html`<${Picture} url=${fileUrl(job, "input")} isNear=${isNear} /><b>${t(`status.${job.status}`)}</b>`}
          ${isDone && isOver && html`<${Playing} job=${job} />`}
        </span>
        <span class="clip-words"><span class="clip-prompt">${job.input.prompt || t("prompt.none")}</span><time class="hint" datetime=${job.created_at}>${when(job.created_at)}</time></span>
      </button>
      <button type="button" class="icon clip-delete" aria-label=${t("delete")} title=${t("delete")} onClick=${() => remove(job)}><${Icon} name="close" /></button>
    </li>`;
});

function Playing({ job, isStill }) {
  const url = fileUrl(job);
  return html`<video src=${isStill ? `${url}#t=0.05` : url} muted loop playsinline autoplay=${!isStill} preload=${isStill ? "metadata" : "auto"} tabindex="-1" aria-hidden="true"></video>`;
}

