import { useEffect } from "../html.js";
import { isLive, liveJobs, state } from "../state.js";
import { t } from "../i18n.js";
import { percentOf } from "./progress.js";

const ICON = document.querySelector("link[rel=icon]");
const STILL = ICON.href;

// Show in the tab's title and icon how far the job at work is.
export function TabProgress() {
  const chosen = state.jobs.get(state.selected);
  const job = chosen && isLive(chosen) ? chosen : liveJobs()[0];
  const percent = job?.status === "running" ? percentOf(job) : null;
  const waiting = job?.status === "queued";
  useEffect(() => {
    document.title = percent !== null ? `${percent} % · Stillreel` : waiting ? `${t("status.queued")} · Stillreel` : "Stillreel";
    ICON.href = percent !== null ? drawn(percent / 100) : STILL;
  }, [percent, waiting]);
  return null;
}

function drawn(part) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
  const pen = canvas.getContext("2d");
  pen.lineWidth = 12;
  pen.lineCap = "round";
  for (const [color, share] of [["#8886", 1], ["#ff9a4a", Math.max(0.03, part)]]) {
    pen.strokeStyle = color;
    pen.beginPath();
    pen.arc(32, 32, 24, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
    pen.stroke();
  }
  return canvas.toDataURL();
}
