// A finished clip: plays at once, muted, in a loop; steps through its frames; goes on from here.
import { html, useEffect, useRef, useState } from "../html.js";
import { batchZip, fileUrl } from "../api.js";
import { loadJob, remove, useFrame, vary } from "../actions.js";
import { select } from "../jobs.js";
import { isLive, set, setOf, toast } from "../state.js";
import { bytes, day, usd } from "../format.js";
import { number, seconds, t, term } from "../i18n.js";
import { Icon } from "./icon.js";
import { Frame } from "./stage.js";

export function Viewer({ job }) {
  const { video } = job.output;
  const [at, setAt] = useState(0);
  const [isPlaying, setPlaying] = useState(true);
  const [isBroken, setBroken] = useState(false);
  const clip = useRef(null);
  const url = fileUrl(job);
  const poster = job.output.poster ? fileUrl(job, "poster") : null;
  const last = video.num_frames - 1;
  useFrames(clip, video.fps, last, setAt, url);
  const go = (frame) => {
    clip.current.pause();
    // Its middle: a browser rounds a frame's very beginning to the one before.
    clip.current.currentTime = (Math.min(last, Math.max(0, frame)) + 0.5) / video.fps;
  };
  const play = () => (clip.current.paused ? clip.current.play() : clip.current.pause());
  const press = (event) => {
    const keys = { ",": () => go(at - 1), ".": () => go(at + 1), " ": play };
    if (!keys[event.key] || event.target.closest("button, input, a, select")) return;
    event.preventDefault();
    keys[event.key]();
  };
  const all = setOf(job);
  const together = all.filter((each) => each.status === "succeeded");
  return html`
    <div class="viewer" onKeyDown=${press}>
      <${Frame} aspect=${video.width / video.height} className="is-done">
        <video ref=${clip} src=${url} poster=${poster} tabindex="0" aria-label=${job.input.prompt || t("clip")} autoplay muted loop playsinline
          onClick=${play} onPlay=${() => setPlaying(true)} onPause=${() => setPlaying(false)} onError=${() => setBroken(true)}></video>
        ${isBroken && html`<div class="failed"><p>${t("clip.gone")}</p></div>`}
      <//>
      <div class="transport">
        <button type="button" class="icon" aria-label=${t(isPlaying ? "pause" : "play")} onClick=${play}><${Icon} name=${isPlaying ? "pause" : "play"} /></button>
        <button type="button" class="icon" aria-label=${t("frame.before")} onClick=${() => go(at - 1)}><${Icon} name="before" /></button>
        <input type="range" min="0" max=${last} value=${at} aria-label=${t("frame")} aria-valuetext=${t("frame.of", { k: at + 1, n: last + 1 })} style=${{ "--part": at / (last || 1) }} onInput=${(event) => go(event.target.valueAsNumber)} />
        <button type="button" class="icon" aria-label=${t("frame.after")} onClick=${() => go(at + 1)}><${Icon} name="after" /></button>
        <span class="hint count">${at + 1} / ${last + 1}</span>
        ${document.fullscreenEnabled && html`<button type="button" class="icon" aria-label=${t("fullscreen")} onClick=${() => clip.current.requestFullscreen()}><${Icon} name="full" /></button>`}
      </div>
      <div class="actions">
        <${Download} job=${job} />
        ${job.batch_id && !all.some(isLive) && html`<a class="button" href=${batchZip(job.batch_id)} download>${t("batch.zip")}</a>`}
        <span class="grow"></span>
        <button type="button" class="quiet" onClick=${() => copy(fileUrl(job))}>${t("copyLink")}</button>
        <button type="button" class="quiet" onClick=${() => set({ dialog: { name: "code", id: job.id } })}>${t("code")}</button>
        <button type="button" class="quiet" onClick=${() => remove(job)}>${t("delete")}</button>
      </div>
      <div class="actions">
        <button type="button" onClick=${() => loadJob(job, { seed: job.seed })}>${t("reuse")}</button>
        <button type="button" onClick=${() => vary(job)}>${t("vary")}</button>
        <button type="button" onClick=${() => takeFrame(job, at, clip.current)}>${t("frame.use")}</button>
        ${together.length > 1 && html`<button type="button" onClick=${() => set({ dialog: { name: "compare", jobs: together.map((each) => each.id) } })}>${t("compare", { n: together.length })}</button>`}
        <span class="grow"></span>
        <button type="button" class="quiet" onClick=${() => select(null)}>${t("newClip")}</button>
      </div>
      <${Facts} job=${job} />
    </div>`;
}

function useFrames(clip, fps, last, setAt, url) {
  useEffect(() => {
    const video = clip.current;
    let next = 0;
    const show = () => setAt(Math.min(last, Math.floor(video.currentTime * fps + 0.001)));
    const hear = () => {
      show();
      next = video.requestVideoFrameCallback?.(hear);
    };
    if (video.requestVideoFrameCallback) hear();
    for (const name of ["timeupdate", "seeked"]) video.addEventListener(name, show);
    // A policy of the browser or of the power supply may refuse; the button is there then.
    video.play?.().catch(() => {});
    return () => {
      video.cancelVideoFrameCallback?.(next);
      for (const name of ["timeupdate", "seeked"]) video.removeEventListener(name, show);
    };
  }, [url]);
}

const KINDS = { video: "MP4", gif: "GIF", poster: "WebP", spritesheet: "WebP" };

function Download({ job }) {
  const kinds = Object.keys(KINDS).filter((variant) => job.output[variant]);
  return kinds.map(
    (variant) => html`
      <a class=${`button ${variant === "video" ? "strong" : ""}`} href=${fileUrl(job, variant)} download=${nameOf(job, variant)}>
        ${variant === "video" ? t("download") : t(`download.${variant}`)} <small>${bytes(job.output[variant].bytes)}</small>
      </a>`,
  );
}

const nameOf = (job, variant) =>
  `${job.id}${{ video: ".mp4", gif: ".gif", poster: "-poster.webp", spritesheet: "-frames.webp" }[variant]}`;

// navigator.clipboard is there on https and on this machine only.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text, readOnly: true, className: "visually-hidden" });
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    if (!isDone) return toast(text, { ms: 15000 });
  }
  return toast(t("copied"));
}

async function takeFrame(job, index, video) {
  // For show only: what is rendered is the server's frame, before the browser's colours.
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const picture = await new Promise((done) => canvas.toBlob(done, "image/png"));
  await useFrame(job, index, picture);
}

function Facts({ job }) {
  const { input, output } = job;
  const plan = job.metrics?.plan || {};
  const facts = [
    [t("fact.size"), `${output.video.width} × ${output.video.height}`],
    [t("fact.length"), `${t("time.s", { n: number(output.video.duration_seconds ?? output.video.num_frames / output.video.fps) })} · ${t("fact.frames", { n: output.video.num_frames, fps: output.video.fps })}`],
    plan.moves && [t("moves"), plan.moves.map((name) => t(`move.${name}`)).join(" + ")],
    [t("field.seed"), job.seed],
    [t("model"), term("engine", job.model)],
    job.metrics?.render_seconds != null && [t("fact.took"), seconds(job.metrics.render_seconds + (job.metrics.tail_seconds || 0))],
    plan.price_usd != null && [t("fact.cost"), usd(plan.cost_usd ?? plan.price_usd)],
    job.expires_at && [t("fact.kept"), day(job.expires_at)],
  ].filter(Boolean);
  return html`
    <div class="facts">
      <p class="said">${input.prompt || t("prompt.none")} ${output.ai_generated ? html`<b class="tag">${t("isAi")}</b>` : html`<b class="tag">${t("notAi")}</b>`} ${job.approximate && html`<b class="tag">${t("preset.draft")}</b>`}</p>
      <dl>${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      ${job.warnings.map((warning) => html`<p class="hint warn">${warning}</p>`)}
    </div>`;
}
