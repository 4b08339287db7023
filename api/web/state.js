// What the page knows, in one place; components read it with `useStore` and change it with `set`.
import { useEffect, useState } from "./html.js";

const SAVED = "stillreel.form";

export const state = {
  phase: "starting", // starting, ready, sign-in, unreachable
  view: location.pathname.endsWith("/admin") ? "admin" : "studio",
  signInError: null,
  isOnline: true,
  models: [],
  queue: null,
  who: null, // {name, how, is_admin}: how the server lets this page in
  jobs: new Map(), // id -> the newest snapshot seen
  hidden: new Set(), // deleted here, and still within the time to undo it
  isListed: false, // the first page of the history has come
  cursors: {}, // filter -> {after, hasMore, isLoading}
  filter: { status: "", q: "" },
  selected: null, // a job's id; null shows what is being made
  photos: [], // what the next clips are made of
  current: 0, // the photo that is shown
  form: { model: null, preset: null, values: {}, prompt: "", shape: "", seed: null, ...saved() },
  isSending: false,
  sendError: null,
  toasts: [],
  dialog: null, // {name, ...}
};

const listeners = new Set();
let isDue = false;
let changes = 0;

export function set(next) {
  Object.assign(state, next);
  changes += 1;
  if (isDue) return;
  isDue = true;
  queueMicrotask(() => {
    isDue = false;
    for (const listener of [...listeners]) listener();
  });
}

export function useStore() {
  const [, again] = useState(0);
  const drawn = changes;
  useEffect(() => {
    const listener = () => again((count) => count + 1);
    listeners.add(listener);
    if (changes !== drawn) listener(); // What changed before this listened is not drawn yet.
    return () => listeners.delete(listener);
  }, []);
  return state;
}

// The settings outlive a reload, with the tab: somebody else's next visit does not meet them.
function saved() {
  try {
    return JSON.parse(sessionStorage.getItem(SAVED)) || {};
  } catch {
    return {};
  }
}

export function setForm(changes) {
  set({ form: { ...state.form, ...changes }, sendError: null });
  try {
    sessionStorage.setItem(SAVED, JSON.stringify(state.form, (_, each) => (each instanceof Blob ? undefined : each)));
  } catch {
    return; // Without storage the settings last until a reload.
  }
}

export const model = () => state.models.find((each) => each.id === state.form.model) || state.models[0];

export const isLive = (job) => job.status === "queued" || job.status === "running";

// Ids are UUIDs of version 7: their order is the time's.
const newestFirst = (a, b) => (a.id < b.id ? 1 : -1);

export function liveJobs() {
  const live = [...state.jobs.values()].filter((job) => isLive(job) && !state.hidden.has(job.id));
  const place = (job) => (job.status === "running" ? 0 : (job.queue?.position ?? 1e9));
  return live.sort((a, b) => place(a) - place(b) || -newestFirst(a, b));
}

export const filterKey = ({ status, q }) => `${status}|${q}`;

export function shownJobs() {
  const { status, q } = state.filter;
  const cursor = state.cursors[filterKey(state.filter)] || { after: null, hasMore: true };
  const words = q.toLowerCase();
  const matches = (job) =>
    !isLive(job) && !state.hidden.has(job.id) && (!status || job.status === status) &&
    (!words || searchable(job).includes(words)) &&
    (!cursor.hasMore || !cursor.after || job.id >= cursor.after);
  return [...state.jobs.values()].filter(matches).sort(newestFirst);
}

const searchable = (job) =>
  [job.input.prompt, job.model, job.id, job.seed, ...Object.values(job.metadata)].join(" ").toLowerCase();

export const isPaused = (name) => state.queue?.data.find((line) => line.model === name)?.is_paused;

// What jobs that were sent together have in common, or undefined.
export const setName = (job) => job.metadata?.set || job.batch_id;

// The order of sending: a batch's jobs have their ids in the order in which their images were read.
export const firstSent = (a, b) => Date.parse(a.created_at) - Date.parse(b.created_at) || -newestFirst(a, b);

// The jobs that were sent together, in the order of sending.
export function setOf(job) {
  const name = setName(job);
  if (!name) return [job];
  const of = [...state.jobs.values()].filter((each) => setName(each) === name && !state.hidden.has(each.id));
  return of.sort(firstSent);
}

let toastId = 0;

export function toast(text, { action, onAction, ms = 5000, kind = "" } = {}) {
  const id = (toastId += 1);
  set({ toasts: [...state.toasts.slice(-2), { id, text, action, onAction, kind }] });
  setTimeout(() => dismiss(id), ms);
  return id;
}

export const dismiss = (id) => set({ toasts: state.toasts.filter((each) => each.id !== id) });
