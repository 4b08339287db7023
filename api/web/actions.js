// What is done with a job that is there: make it again, cancel it, delete it, load its settings.
import * as api from "./api.js";
import { randomSeed } from "./form.js";
import { QUICK_MS, explained, forget, learn, select, soon } from "./jobs.js";
import { loadSettings } from "./files.js";
import { measured, showPhotos } from "./photos.js";
import { dismiss, set, setForm, state, toast } from "./state.js";
import { t } from "./i18n.js";
import { unanswered } from "./unanswered.js";

const UNDO_MS = 6000;
const retries = unanswered();

// Make a job again of its own images, which the server has: by the same seed, or by others.
export async function again(job, seeds = [job.seed]) {
  try {
    const { set: _, ...metadata } = job.metadata;
    if (seeds.length > 1) metadata.set = retries.keyOf(["set", job.id, seeds]);
    let first = null;
    for (const seed of seeds) {
      const made = await api.retryJob(job.id, { seed, metadata }, retries.keyOf([job.id, seed]));
      learn([made], { isNews: false });
      if (!first) select((first = made).id);
    }
    retries.forget();
    varied.delete(job.id);
    soon(QUICK_MS / 2);
  } catch (error) {
    if (error.status === 410) return loadJob(job, { seed: job.seed });
    toast(explained(error), { kind: "bad" });
  }
}

const varied = new Map(); // job id -> the seeds of variants that did not all arrive

export function vary(job) {
  if (!varied.has(job.id)) varied.set(job.id, [0, 1, 2, 3].map(randomSeed));
  return again(job, varied.get(job.id));
}

export async function cancel(job) {
  try {
    learn([await api.cancelJob(job.id)], { isNews: false });
  } catch (error) {
    if (error.status !== 409) toast(explained(error), { kind: "bad" });
    soon(0);
  }
}

export async function cancelBatch(id) {
  try {
    await api.cancelBatch(id);
  } catch (error) {
    if (error.status !== 409) toast(explained(error), { kind: "bad" });
  }
  soon(0);
}

const doomed = new Map(); // id -> timer

// Hide a job now and delete it when the time to undo is over, or the page closes.
export function remove(job) {
  set({ hidden: new Set(state.hidden).add(job.id), selected: state.selected === job.id ? null : state.selected });
  if (!state.selected) history.replaceState(null, "", location.pathname);
  const message = toast(t("deleted"), { action: t("undo"), onAction: () => restore(job.id, message), ms: UNDO_MS });
  doomed.set(job.id, setTimeout(() => reallyDelete(job.id), UNDO_MS));
}

function restore(id, message) {
  clearTimeout(doomed.get(id));
  doomed.delete(id);
  unhide(id);
  dismiss(message);
}

function unhide(id) {
  const hidden = new Set(state.hidden);
  hidden.delete(id);
  set({ hidden });
}

async function reallyDelete(id) {
  doomed.delete(id);
  try {
    await api.deleteJob(id);
  } catch (error) {
    if (error.status !== 404) {
      unhide(id);
      toast(explained(error), { kind: "bad" });
      return;
    }
  }
  forget(id);
}

function sendDeletes() {
  for (const [id, waiting] of doomed) {
    clearTimeout(waiting);
    api.deleteJob(id, { keepalive: true }).catch(() => {}); // Nobody is left to tell.
  }
  doomed.clear();
}

addEventListener("pagehide", sendDeletes);

export async function loadJob(job, { seed = null } = {}) {
  loadSettings(job.input, { seed, model: job.model });
  try {
    const blob = await api.fetchBlob(api.fileUrl(job, "input"));
    if (job.input.last_frame) {
      const last = await api.fetchBlob(`${api.fileUrl(job, "input")}&name=last_frame`);
      const file = new File([last], "last-frame.png", { type: last.type });
      setForm({ values: { ...state.form.values, last_frame: file } });
    }
    const focus = job.input.focus?.some((part) => part !== 0.5) ? job.input.focus : null;
    showPhotos([await measured(blob, "photo.png", { focus })]);
  } catch {
    set({ selected: null });
    toast(t("photo.gone"), { kind: "bad" });
  }
}

export async function useFrame(job, index, picture) {
  loadSettings({ ...job.input, prompt: job.input.prompt }, { model: job.model });
  const photo = await measured(picture, `frame-${index}.png`, { jobId: job.id, frame: index });
  showPhotos([photo]);
}
