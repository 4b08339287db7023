// Before a clip is sent: what it will be and when, and why it cannot.
import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { clipSeconds, fields, frame, property, value } from "../form.js";
import { setForm, state } from "../state.js";
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
  const lower = smaller[smaller.indexOf(value("resolution", of)) - 1];
  return html`<p class="error" role="alert">${ways[problem.code]()}${" "}
    ${mend && html`<button type="button" class="link" onClick=${mend}>${t("fit.use", { n: problem.frames })}</button>`}
    ${problem.code !== "frames" && lower && html`<button type="button" class="link" onClick=${() => change("resolution", lower)}>${t("fit.lower", { resolution: lower })}</button>`}
  </p>`;
}

// When the clip will be there: asked of the server where it knows, else from its queue's figures.
export function Expected({ of, photo }) {
  const [told, setTold] = useState(null);
  const sent = JSON.stringify(fields(photo, of));
  const line = state.queue?.data.find((each) => each.model === of.id);
  useEffect(() => {
    if (!api.can.estimate) return undefined;
    const waiting = setTimeout(() => {
      api.estimate(of.id, { ...frame(photo, of), ...JSON.parse(sent) }).then(setTold, () => setTold(null));
    }, 300);
    return () => clearTimeout(waiting);
  }, [sent, of.id]);
  const { width, height } = frame(photo, of);
  const size = `${width} × ${height}, ${t("time.s", { n: number(clipSeconds(of)) })}`;
  const took = told?.render_seconds ?? line?.render_seconds;
  const wait = told?.wait_seconds ?? line?.wait_seconds ?? 0;
  if (took == null) return html`<span>${size}</span>`;
  const ready = told?.end_seconds ?? wait + took;
  return html`<span>${size} · ${wait > 2 ? t("expect.wait", { start: seconds(wait), end: seconds(ready) }) : t("expect.soon", { end: seconds(ready) })}</span>`;
}
