// Photos of the next clips: chosen, dropped, pasted, a sample, or out of an earlier clip.
import * as api from "./api.js";
import { readsChinese } from "./form.js";
import { select } from "./jobs.js";
import { model, set, setForm, state } from "./state.js";
import { language } from "./i18n.js";
import { sentence } from "./moves.js";

export const SAMPLES = [
  { name: "coffee", moves: ["push_in"], speed: "slow" },
  { name: "cat", moves: ["arc_right"], speed: "slow" },
  { name: "rocket", moves: ["tilt_up", "pull_out"], speed: "normal" },
];

export async function measured(blob, name, more = {}) {
  const url = URL.createObjectURL(blob);
  const size = await createImageBitmap(blob).then(
    (bitmap) => {
      const { width, height } = bitmap;
      bitmap.close();
      return { width, height };
    },
    () => ({ width: 0, height: 0 }), // HEIC in most browsers: the server can, this page cannot.
  );
  return { blob, name, url, x: 0.5, y: 0.5, focus: null, ...size, ...more };
}

// What chooses, drops and pastes. The list is copied at once: the browser clears its own.
export const addFiles = (files) => {
  const all = [...files];
  return import("./files.js").then((part) => part.addFiles(all));
};

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
