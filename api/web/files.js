// Files that were chosen, dropped or pasted: photos, or a clip made here, which loads its settings.
import { property, ratio, shapes } from "./form.js";
import { dress } from "./lazy.js";
import { measured, showPhotos } from "./photos.js";
import { model as current, set, setForm, state, toast } from "./state.js";
import { later, t } from "./i18n.js";

const KINDS = /(jpe?g|png|webp|avif|hei[cf])$/i; // At the end of a type, or of a name without one.
const MS_TO_READ = 9000;

export async function addFiles(files) {
  await Promise.all([later(), dress()]);
  const clip = files.find((file) => file.type === "video/mp4" || /\.mp4$/i.test(file.name));
  if (clip) return loadClip(clip);
  const images = files.filter((file) => KINDS.test(file.type || file.name));
  const photos = [];
  set({ isReading: images.length > 0 });
  for (const file of images) {
    const photo = await measured(file, file.name); // One at a time: a hundred would fill the memory.
    // Some browsers cannot show HEIC, which the server reads. What else is not shown is broken.
    if (photo.width || /hei[cf]|avif/i.test(file.type || file.name)) photos.push(photo);
    else URL.revokeObjectURL(photo.url);
  }
  set({ isReading: false });
  if (photos.length) showPhotos(photos);
  const out = files.length - photos.length;
  const why = photos.length ? "photo.some" : images.length ? "photo.broken" : "photo.none";
  if (out) toast(t(why, { n: out }), { kind: "bad", ms: MS_TO_READ });
}

const SETTINGS = ["negative_prompt", "resolution", "fit", "num_frames", "fps", "num_inference_steps", "guidance_scale"];

// Put a job's settings into the form; `input` and the words of an MP4 have the same names.
export function loadSettings(settings, { seed = null, model = null } = {}) {
  const values = {};
  for (const name of SETTINGS) if (settings[name] != null && settings[name] !== "") values[name] = settings[name];
  const isKnown = state.models.some((each) => each.id === model);
  const of = state.models.find((each) => each.id === model) ?? current();
  const { width, height } = settings;
  const side = `${Math.min(width, height)}p`;
  if (!values.resolution && property(of, "resolution")?.enum?.includes(side)) values.resolution = side;
  // A cut photo has its shape already; one with bars has its own.
  const isNear = (name) => name && Math.abs(Math.log((ratio(name) * height) / width)) < 0.02;
  const shape = (values.fit ?? "crop") !== "crop" ? (shapes(of).find(isNear) ?? "") : "";
  const preset = settings.quality && settings.quality !== "standard" ? `quality:${settings.quality}` : null;
  setForm({ prompt: settings.prompt || "", values, preset, seed, shape, ...(isKnown ? { model } : {}) });
}

async function loadClip(file) {
  const { readClip } = await import("./mp4.js");
  const settings = await readClip(file);
  if (!settings) return toast(t("clip.foreign"), { kind: "bad" });
  loadSettings(settings, { seed: settings.seed, model: settings.engine });
  return toast(t("clip.loaded"));
}
