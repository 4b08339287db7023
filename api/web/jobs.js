// Jobs as the server has them: followed, made, canceled, deleted. The server owns the queue.
import * as api from "./api.js";
import { cut, fields, newId, randomSeed } from "./form.js";
import { keepPhoto } from "./photos.js";
import { dismiss, filterKey, isLive, liveJobs, model, set, state, toast } from "./state.js";
import { t } from "./i18n.js";

const QUICK_MS = 350;
const USUAL_MS = 1000;
const IDLE_MS = 8000;
const FLOOR_MS = 10000; // While events come, what they may have missed.
const PAGE = 30;
const UNDO_MS = 6000;
const AT_ONCE = 8;

let timer = null;
let round = 0;
let isListening = false;
let stopListening = null;
const heardEnds = new Set();

export function learn(jobs, { isNews = true } = {}) {
  const known = new Map(state.jobs);
  for (const job of jobs) {
    const before = known.get(job.id);
    if (job.deleted || job.status === "deleted") {
      known.delete(job.id);
      continue;
    }
    if (before && before.version > job.version) continue;
    // A listing does not say where a queued job stands.
    known.set(job.id, { ...job, queue: job.queue ?? (isLive(job) ? before?.queue : null) ?? null, seenAt: Date.now() });
    if (isNews && before && isLive(before) && !isLive(job)) tell(job);
  }
  set({ jobs: known });
}

function tell(job) {
  if (heardEnds.has(job.id)) return;
  heardEnds.add(job.id);
  const text = t(`ended.${job.status}`);
  set({ announcement: text });
  const may = window.isSecureContext && window.Notification?.permission === "granted";
  if (document.hidden && may && job.status !== "canceled") {
    new Notification("Stillreel", { body: `${text} ${job.input.prompt}`.trim(), tag: job.id });
  }
}

export function start() {
  for (const name of ["visibilitychange", "pageshow", "online", "focus"]) {
    addEventListener(name, () => !document.hidden && soon(0));
  }
  addEventListener("pagehide", sendDeletes);
  listen();
  soon(0);
}

// Ask again from the start: for another caller after a sign-in, or none after a sign-out.
export function restart() {
  set({ jobs: new Map(), cursors: {}, isListed: false, selected: null });
  round = 0;
  listen();
  soon(0);
}

function listen() {
  stopListening?.();
  stopListening = api.follow(
    (job) => learn([job]),
    (isOpen) => {
      isListening = isOpen;
      soon(0);
    },
  );
}

export function soon(ms) {
  clearTimeout(timer);
  timer = setTimeout(look, ms);
}

async function look() {
  clearTimeout(timer);
  if (state.phase !== "ready") return soon(USUAL_MS);
  try {
    await readNews();
    if (!state.isOnline) set({ isOnline: true });
  } catch (error) {
    if (error.status === 401) return soon(USUAL_MS);
    set({ isOnline: error.status !== 0 && error.status < 500 });
  }
  return soon(pause());
}

function pause() {
  if (!state.isOnline) return 2000;
  const live = liveJobs();
  if (!live.length) return document.hidden ? 4 * IDLE_MS : IDLE_MS;
  if (isListening) return FLOOR_MS;
  const isNew = live.some((job) => Date.now() - Date.parse(job.created_at) < 6000);
  return document.hidden ? 3 * USUAL_MS : isNew ? QUICK_MS : USUAL_MS;
}

async function readNews() {
  const isFull = round % 8 === 0 || !liveJobs().length;
  round += 1;
  if (isFull) {
    const [newest, running, queued] = await Promise.all([
      api.listJobs({ limit: PAGE }),
      api.listJobs({ status: "running", limit: 100 }),
      api.listJobs({ status: "queued", limit: 100 }),
    ]);
    learn([...newest.data, ...running.data, ...queued.data]);
    if (!state.isListed) {
      const cursor = { after: newest.last_id, hasMore: newest.has_more };
      set({ isListed: true, cursors: { ...state.cursors, [filterKey({ status: "", q: "" })]: cursor } });
    }
    set({ queue: await api.readQueue() });
  }
  // The first in line each time, and the rest in turns.
  const live = liveJobs();
  const first = live.slice(0, AT_ONCE / 2);
  const rest = live.slice(AT_ONCE / 2);
  const from = rest.length ? (round * (AT_ONCE / 2)) % rest.length : 0;
  const chosen = state.jobs.get(state.selected);
  const asked = new Set([...first, ...rest.slice(from, from + AT_ONCE / 2), ...(chosen && isLive(chosen) ? [chosen] : [])]);
  await Promise.all([...asked].map(readOne));
}

async function readOne(job) {
  try {
    const news = await api.readJob(job.id, job.etag);
    if (news) learn([news]);
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(job.id);
  }
}

function forget(id) {
  const jobs = new Map(state.jobs);
  jobs.delete(id);
  set({ jobs, selected: state.selected === id ? null : state.selected });
}

// Read the next page of the history as it is filtered now.
export async function readMore() {
  const { filter } = state;
  const name = filterKey(filter);
  const cursor = state.cursors[name] || { after: null, hasMore: true };
  if (cursor.isLoading || !cursor.hasMore) return;
  const keep = (changes) => set({ cursors: { ...state.cursors, [name]: { ...cursor, ...changes } } });
  keep({ isLoading: true });
  try {
    const q = api.can.search ? filter.q : "";
    const limit = filter.q && !api.can.search ? 100 : PAGE;
    const page = await api.listJobs({ limit, after: cursor.after, status: filter.status, q });
    learn(page.data, { isNews: false });
    keep({ after: page.last_id ?? cursor.after, hasMore: page.has_more, isLoading: false });
  } catch {
    keep({ isLoading: false });
  }
}

export function select(id) {
  set({ selected: id, dialog: null });
  history.replaceState(null, "", id ? `#${id}` : location.pathname);
}

// Send one job for each photo and seed, and show the first.
export async function submit({ seeds } = {}) {
  const of = model();
  const orders = seeds
    ? seeds.map((seed) => ({ photo: state.photos[state.current], seed }))
    : state.photos.map((photo) => ({ photo }));
  if (!orders.length || state.isSending) return;
  set({ isSending: true, sendError: null });
  const together = orders.length > 1 ? newId() : null;
  let first = null;
  try {
    for (const { photo, seed } of orders) {
      const sent = { ...fields(photo, of), outputs: ["poster", "gif"] };
      if (seed !== undefined) sent.seed = seed;
      if (together) sent.metadata = { set: together };
      const job = await api.createJob(sent, await cut(photo, of), newId());
      keepPhoto(job.id, photo.url);
      learn([job], { isNews: false });
      if (!first) select((first = job).id);
    }
    set({ announcement: t("sent"), sentAt: Date.now() });
  } catch (error) {
    set({ sendError: error });
  }
  set({ isSending: false });
  soon(QUICK_MS / 2);
}

// Send what a job was made of again: by the same seed, or by others.
export async function again(job, seeds = [job.seed]) {
  try {
    const blob = await api.fetchBlob(api.fileUrl(job, "input"));
    const { image_sha256, image_width, image_height, ...input } = job.input;
    const together = seeds.length > 1 ? newId() : null;
    let first = null;
    for (const seed of seeds) {
      const sent = { ...input, model: job.model, seed, outputs: ["poster", "gif"] };
      if (sent.resolution) delete sent.width, delete sent.height;
      if (sent.quality === "standard") delete sent.quality;
      if (together) sent.metadata = { set: together };
      const made = await api.createJob(sent, { blob, name: "photo.png" }, newId());
      keepPhoto(made.id, URL.createObjectURL(blob));
      learn([made], { isNews: false });
      if (!first) select((first = made).id);
    }
    soon(QUICK_MS / 2);
  } catch (error) {
    toast(explained(error), { kind: "bad" });
  }
}

export const vary = (job) => again(job, [0, 1, 2, 3].map(randomSeed));

export async function cancel(job) {
  try {
    learn([await api.cancelJob(job.id)], { isNews: false });
  } catch (error) {
    if (error.status !== 409) toast(explained(error), { kind: "bad" });
    soon(0);
  }
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

// Return an error in words: ours where we know the way out, else the server's own.
export function explained(error) {
  const words = t(`error.${error.code}`, { n: error.retryAfter ?? 5 });
  return words === `error.${error.code}` ? error.message : words;
}
