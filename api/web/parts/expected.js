// Before a clip is sent: what it will be and when, and why it cannot.
import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { clipSeconds, fields, frame, obstacle, property, value } from "../form.js";
import { isPaused, setForm, state } from "../state.js";
import { usd } from "../format.js";
import { number, seconds, t } from "../i18n.js";

const change = (name, next) => setForm({ values: { ...state.form.values, [name]: next } });

export function Obstacle({ problem, of }) {
  const ways = {
    side: () => t("fit.side", problem),
    frames: () => t("fit.frames", { ...problem, seconds: number(problem.seconds) }),
    resolution: () => t("fit.resolution", problem),
  };
  const mend = problem.code === "frames" && (() => change("num_frames", problem.frames));
  const smaller = property(of, "resolution")?.enum || [];
  const lower = smaller.slice(0, smaller.indexOf(value("resolution", of))).reverse().find(problem.lower ?? (() => true));
  const shape = problem.width > problem.height ? "16:9" : "9:16";
  return html`<p class="error" role="alert">${state.photos.length > 1 && `${t("photo.nth", { n: problem.nth })}: `}${ways[problem.code]()}${" "}
    ${mend && html`<button type="button" class="link" onClick=${mend}>${t("fit.use", { n: problem.frames })}</button>`}
    ${problem.code === "side" && !lower && html`<button type="button" class="link" onClick=${() => setForm({ shape })}>${t("fit.crop", { shape })}</button>`}
    ${problem.code !== "frames" && lower && html`<button type="button" class="link" onClick=${() => change("resolution", lower)}>${t("fit.lower", { resolution: lower })}</button>`}
  </p>`;
}

// When the clip will be there, where enough like it were made here to know.
export function Expected({ of, photo }) {
  const [told, setTold] = useState(null);
  const { width, height } = frame(photo, of);
  const { fps, num_frames, num_inference_steps, quality } = fields(photo, of);
  const asked = JSON.stringify({ width, height, fps, num_frames, num_inference_steps, quality });
  const line = state.queue?.data.find((each) => each.model === of.id);
  useEffect(() => {
    let isWanted = true;
    const hear = (news) => isWanted && setTold(news);
    if (obstacle(photo, of)) return hear(null);
    const waiting = setTimeout(() => api.estimate(of.id, JSON.parse(asked)).then(hear, () => hear(null)), 300);
    return () => {
      isWanted = false;
      clearTimeout(waiting);
    };
  }, [asked, of.id, line?.queued, line?.running]);
  const price = of.hosted ? `, ${t("expect.usd", { usd: usd(clipSeconds(of) * of.hosted.usd_per_second) })}` : "";
  const sides = photo.width ? `${width} × ${height}, ` : ""; // Else nobody knows them here.
  const size = `${sides}${t("time.s", { n: number(clipSeconds(of)) })}${price}`;
  const { wait_seconds: wait, end_seconds: end } = told || {};
  const starts = wait > 2 ? (end == null ? t("left.start", { time: seconds(wait) }) : t("expect.wait", { start: seconds(wait), end: seconds(end) })) : null;
  const said = starts || (end == null ? null : t("expect.soon", { end: seconds(end) }));
  return html`<span>${size}${said && !isPaused(of.id) && ` · ${said}`}</span>`;
}
