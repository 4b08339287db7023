// Photos of the next clips: chosen, dropped, pasted, a sample, or out of an earlier clip.
import * as api from "./api.js";
import { readsChinese } from "./form.js";
import { select } from "./jobs.js";
import { model, set, setForm, state, toast } from "./state.js";
import { language, t } from "./i18n.js";
import { sentence } from "./moves.js";

export const SAMPLES = [
  { name: "coffee", moves: ["push_in"], speed: "slow" },
  { name: "cat", moves: ["arc_right"], speed: "slow" },
  { name: "rocket", moves: ["tilt_up", "pull_out"], speed: "normal" },
];

export async function measured(blob, name, more = {}) {
  const url = URL.createObjectURL(blob);
  const size = await createImageBitmap(blob).then(
    (bitmap) => ({ width: bitmap.width, height: bitmap.height }),
    () => ({ width: 0, height: 0 }), // HEIC in most browsers: the server can, this page cannot.
  );
  return { blob, name, url, x: 0.5, y: 0.5, focus: null, ...size, ...more };
}

const KINDS = /(jpe?g|png|webp|avif|hei[cf])$/i; // At the end of a type, or of a name without one.

export async function addFiles(files) {
  const all = [...files];
  const clip = all.find((file) => file.type === "video/mp4" || /\.mp4$/i.test(file.name));
  if (clip) return loadClip(clip);
  set({ isReading: true });
  const read = await Promise.all(all.filter((file) => KINDS.test(file.type || file.name)).map((file) => measured(file, file.name)));
  set({ isReading: false });
  // Some browsers cannot show HEIC, which the server reads. What else is not shown is broken.
  const photos = read.filter((photo) => photo.width || /hei[cf]|avif/i.test(photo.blob.type || photo.name));
  if (photos.length) showPhotos(photos);
  const out = all.length - photos.length;
  if (out) toast(photos.length ? t("photo.some", { n: out }) : t(read.length ? "photo.broken" : "photo.none"), { kind: "bad", ms: 9000 });
}

export function showPhotos(photos) {
  state.photos.forEach((photo) => release(photo));
  set({ photos, current: 0, sendError: null });
  select(null);
}

export function forgetPhotos() {
  showPhotos([]);
  kept.forEach((url) => URL.revokeObjectURL(url));
  kept.clear();
}

const kept = new Map(); // job id -> the photo as this page has it: no need to fetch it again

export const keepPhoto = (jobId, url) => kept.set(jobId, url);
export const keptPhoto = (jobId) => kept.get(jobId);

function release(photo) {
  if (![...kept.values()].includes(photo.url)) URL.revokeObjectURL(photo.url);
}

export async function chooseSample({ name, moves, speed }) {
  const blob = await api.fetchBlob(api.path(`web/samples/${name}.jpg`));
  showPhotos([await measured(blob, `${name}.jpg`)]);
  setForm({ prompt: sentence(moves, speed, readsChinese(model()) ? language : "en") });
}

export function removePhoto(index) {
  release(state.photos[index]);
  const photos = state.photos.filter((_, at) => at !== index);
  set({ photos, current: Math.min(state.current, Math.max(0, photos.length - 1)) });
}

const within = (value) => Math.min(1, Math.max(0, value));

const changePhoto = (index, changes) =>
  set({ photos: state.photos.map((photo, at) => (at === index ? { ...photo, ...changes } : photo)) });

export const movePhoto = (index, x, y) => changePhoto(index, { x: within(x), y: within(y) });

// Set the point that the camera moves towards, in fractions of the photo; null is its middle.
export const focusPhoto = (index, point) => changePhoto(index, { focus: point?.map(within) ?? null });

const SETTINGS = ["negative_prompt", "resolution", "fit", "num_frames", "fps", "num_inference_steps", "guidance_scale"];

// Put a job's settings into the form; `input` and the words of an MP4 have the same names.
export function loadSettings(settings, { seed = null, model = null } = {}) {
  const values = {};
  for (const name of SETTINGS) if (settings[name] != null && settings[name] !== "") values[name] = settings[name];
  const isKnown = state.models.some((each) => each.id === model);
  const preset = settings.quality && settings.quality !== "standard" ? `quality:${settings.quality}` : null;
  setForm({ prompt: settings.prompt || "", values, preset, seed, shape: "", ...(isKnown ? { model } : {}) });
}

async function loadClip(file) {
  const { readClip } = await import("./mp4.js");
  const settings = await readClip(file);
  if (!settings) return toast(t("clip.foreign"), { kind: "bad" });
  loadSettings(settings, { seed: settings.seed, model: settings.engine });
  return toast(t("clip.loaded"));
}
