// From the form to the fields of a request, and what a clip of them will be.
import { model, setForm, state } from "./state.js";

// Drawn by parts of their own, or nothing a creator sets for one clip.
const OWN = new Set(["prompt", "model", "image", "resolution", "num_frames", "seconds", "seed", "fit", "focus", "quality", "width", "height"]);
const NEVER = new Set(["priority", "outputs", "webhook", "metadata", "queue_ttl_seconds", "retain_seconds", "steps", "keyframes"]);
const ASPECTS = { "16:9": 16 / 9, "1:1": 1, "4:5": 0.8, "9:16": 9 / 16 };

// Return a property's schema with its reference and its "or null" resolved.
export function property(of, name) {
  let schema = of?.parameters.properties[name];
  if (!schema || schema["x-ignored"]) return null;
  const { default: standard } = schema;
  if (schema.anyOf) schema = { ...schema, ...schema.anyOf.find((each) => each.type !== "null") };
  if (schema.$ref) schema = { ...schema, ...of.parameters.$defs[schema.$ref.split("/").pop()] };
  return standard === undefined ? schema : { ...schema, default: standard };
}

// Say whether a model makes something of a Chinese prompt.
export const readsChinese = (of) => !of.ai_generated || ["zh", "mul"].some((each) => of.prompt_languages?.includes(each));

// The settings below the fold: all that the model declares and no part of the page draws itself.
export const furtherNames = (of) =>
  Object.keys(of?.parameters.properties || {}).filter(
    (name) => !OWN.has(name) && !NEVER.has(name) && property(of, name),
  );

export function presets(of) {
  const qualities = Object.keys(of.qualities || {});
  const made = qualities.length
    ? ["draft", "standard", "high"]
        .filter((name) => name === "standard" || qualities.includes(name))
        .map((name) => ({ id: `quality:${name}`, name, values: name === "standard" ? {} : { quality: name } }))
    : [];
  const own = of.presets.map(({ name, ...values }) => ({
    id: `preset:${name}`,
    name,
    values: Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)),
  }));
  return [...made, ...own];
}

// Return a setting as it stands: what the creator set, else the preset's, else the model's own.
export function value(name, of = model()) {
  const { values } = state.form;
  if (values[name] !== undefined) return within(values[name], property(of, name));
  const preset = presets(of).find((each) => each.id === state.form.preset)?.values || {};
  if (preset[name] !== undefined) return preset[name];
  if (name === "num_inference_steps" && preset.quality) {
    return of.qualities[preset.quality]?.num_inference_steps;
  }
  return property(of, name)?.default;
}

// What another model was set to may be more than this one makes.
function within(set, schema) {
  if (schema?.enum) return schema.enum.includes(set) ? set : schema.default;
  return typeof set === "number" ? Math.min(schema?.maximum ?? set, Math.max(schema?.minimum ?? set, set)) : set;
}

// Choose a model. What says how the clip should look stays; what it costs in effort is the model's own.
export function chooseModel(id) {
  const of = state.models.find((each) => each.id === id);
  const stays = ["negative_prompt", "fit", "resolution", "last_frame"].filter((name) => property(of, name));
  const values = Object.fromEntries(stays.map((name) => [name, state.form.values[name]]));
  const shape = shapes(of).includes(state.form.shape) ? state.form.shape : "";
  setForm({ model: id, preset: null, values, shape });
}

export const clipSeconds = (of = model()) => value("num_frames", of) / value("fps", of);

const shortSide = (resolution) => parseInt(resolution, 10);

function sizeFor(of, aspect, resolution) {
  // A model with sizes of its own shows no resolution.
  const buckets = of.buckets?.[resolution] ?? Object.values(of.buckets || {})[0];
  if (buckets?.length) {
    const far = ([w, h]) => Math.abs(Math.log(w / h) - Math.log(aspect));
    return buckets.reduce((best, each) => (far(each) < far(best) ? each : best));
  }
  const multiple = of.parameters.properties.width?.multipleOf || 2;
  const snap = (side) => Math.max(multiple, Math.round(side / multiple) * multiple);
  const short = shortSide(resolution);
  return aspect >= 1 ? [snap(short * aspect), snap(short)] : [snap(short), snap(short / aspect)];
}

// The shapes a creator may choose from; "" is the photo's own, or the nearest the model has.
export function shapes(of) {
  const buckets = Object.values(of.buckets || {}).at(-1);
  if (!buckets?.length) return ["", ...Object.keys(ASPECTS)];
  return ["", ...new Set(buckets.map(([w, h]) => bucketName(w, h)))];
}

const KNOWN = ["1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16", "4:5"];
export const ratio = (name) => name.split(":").reduce((w, h) => w / h);
const bucketName = (w, h) => KNOWN.reduce((best, each) => (off(each, w / h) < off(best, w / h) ? each : best));
const off = (name, aspect) => Math.abs(Math.log(ratio(name) / aspect));

// The aspect that a photo has when it is cut, which is in whole pixels.
const asCut = ({ width, height }, aspect) =>
  width / height > aspect ? Math.round(height * aspect) / height : width / Math.round(width / aspect) || aspect;

// Return what the clip will be: its sides, and whether the photo has another shape.
export function frame(photo, of = model()) {
  const own = photo?.width ? photo.width / photo.height : 1.5;
  const wanted = state.form.shape ? asCut(photo, ratio(state.form.shape)) : own;
  const [width, height] = sizeFor(of, wanted, value("resolution", of));
  const aspect = width / height;
  return { width, height, aspect, differs: Math.abs(Math.log(aspect / own)) > 0.015 };
}

// Return what of a photo its frame shows, in fractions of the photo: less than it where it is
// cropped, more where bars are beside it.
export function view(photo, aspect) {
  const own = photo.width / photo.height;
  const isCrop = (state.form.values.fit || "crop") === "crop";
  const [w, h] = [aspect / own, own / aspect].map((part) => (isCrop ? Math.min : Math.max)(1, part));
  const [x, y] = isCrop ? [photo.x, photo.y] : [0.5, 0.5];
  return { left: (1 - w) * x, top: (1 - h) * y, w, h };
}

// Say whether this page cuts the photo: the server's own crop is the middle of it.
export function isCut(photo, of = model()) {
  const isCentred = photo.x === 0.5 && photo.y === 0.5 && !state.form.shape;
  const isCrop = (state.form.values.fit || "crop") === "crop";
  return photo.width > 0 && !photo.jobId && isCrop && frame(photo, of).differs && !isCentred;
}

// Return the point that a camera moves towards, in fractions of the image that is sent.
function focusOf(photo, of) {
  if (!isCut(photo, of)) return photo.focus;
  const { left, top, w, h } = view(photo, frame(photo, of).aspect);
  const within = (part) => Math.min(1, Math.max(0, part));
  return [within((photo.focus[0] - left) / w), within((photo.focus[1] - top) / h)];
}

// Return why this cannot be made, with what could, or null.
export function obstacle(photo, of = model()) {
  const { width, height } = frame(photo, of);
  const most = property(of, "width")?.maximum;
  if (most && Math.max(width, height) > most) {
    const long = Math.max(width / height, height / width);
    return { code: "side", width, height, most, lower: (each) => shortSide(each) * long <= most };
  }
  const resolution = value("resolution", of);
  const at = (of.buckets?.[resolution] || []).findIndex(([w, h]) => w === width && h === height);
  const frames = of.max_frames?.[resolution]?.[at];
  if (frames === undefined || value("num_frames", of) <= frames) return null;
  return frames ? { code: "frames", frames, seconds: frames / value("fps", of), resolution } : { code: "resolution", resolution };
}

// Return what keeps the photos from being sent, and the number of the photo, or undefined.
export function hindrance(photos, of = model()) {
  const all = photos.map((photo, at) => ({ ...obstacle(photo, of), nth: at + 1 }));
  return all.find(({ code }) => code);
}

// Return the fields of a request, without its image.
export function fields(photo, of = model()) {
  const { form } = state;
  const shape = frame(photo, of);
  const fit = property(of, "fit")?.enum?.includes(form.values.fit) ? form.values.fit : "crop";
  const sent = { model: of.id, prompt: of.uses_prompt ? form.prompt.trim() : "" };
  for (const name of ["resolution", "fps", "num_frames", "num_inference_steps", "guidance_scale", ...furtherNames(of)]) {
    if (property(of, name)) sent[name] = value(name, of);
  }
  const preset = presets(of).find((each) => each.id === form.preset)?.values || {};
  if (preset.quality) {
    sent.quality = preset.quality; // Which sets the steps, unless they were chosen.
    if (form.values.num_inference_steps === undefined) delete sent.num_inference_steps;
  }
  if (shape.differs && fit !== "crop") {
    Object.assign(sent, { fit, width: shape.width, height: shape.height });
    delete sent.resolution;
  }
  if (photo?.focus && property(of, "focus")) sent.focus = focusOf(photo, of);
  if (form.seed !== null) sent.seed = form.seed;
  return sent;
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

// crypto.randomUUID needs https; this does not.
export const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
