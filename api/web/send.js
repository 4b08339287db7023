// From the photos and the form to jobs.
import * as api from "./api.js";
import { fields, frame, isCut } from "./form.js";
import { QUICK_MS, learn, select, soon } from "./jobs.js";
import { keepPhoto } from "./photos.js";
import { firstSent, model, set, state } from "./state.js";
import { later, t } from "./i18n.js";
import { unanswered } from "./unanswered.js";

const BATCH = 100; // The most that one takes.
const sends = unanswered();

// What makes a photo, as it is sent, another one.
const traits = ({ url, x, y, jobId, frame: at }) => [url, x, y, jobId, at, state.form.shape];

// A photo on its way is lost with the page.
addEventListener("beforeunload", (event) => state.isSending && event.preventDefault());

// Send the photos: one as a job, several as a batch, all of them or none; show the first.
export async function submit() {
  const of = model();
  const { photos } = state;
  if (!photos.length || state.isSending) return;
  set({ isSending: true, sendError: null });
  const order = async (photo) => {
    const sent = { ...fields(photo, of), outputs: ["poster", "gif"] };
    return { traits: [traits(photo), sent], image: await cut(photo, of), fields: sent };
  };
  try {
    await later();
    const orders = [];
    for (const photo of photos) orders.push(await order(photo)); // One at a time is decoded.
    if (orders.length > 1 && !hasFiles(orders[0].fields)) await sendTogether(orders);
    else await sendEach(orders, photos);
    sends.forget();
    set({ announcement: t("sent") });
  } catch (error) {
    set({ sendError: error });
  }
  set({ isSending: false });
  soon(QUICK_MS / 2);
}

// A batch names an image for each clip, and has no place for files of other fields.
const hasFiles = (sent) => Object.values(sent).some((value) => value instanceof Blob);

async function sendTogether(orders) {
  for (let from = 0; from < orders.length; from += BATCH) {
    const part = orders.slice(from, from + BATCH);
    const { id } = await api.createBatch(part, sends.keyOf(part.map((each) => each.traits)));
    const { data } = await api.listJobs({ batch_id: id, limit: BATCH, order: "asc" });
    learn(data, { isNews: false });
    if (!from) select(data.sort(firstSent)[0].id);
  }
}

async function sendEach(orders, photos) {
  const together = orders.length > 1 ? { metadata: { set: sends.keyOf(orders.map((each) => each.traits)) } } : {};
  for (const [at, { image, fields: sent, traits: own }] of orders.entries()) {
    const job = await api.createJob({ ...sent, ...together }, image, sends.keyOf([at, own]));
    keepPhoto(job.id, photos[at].url);
    learn([job], { isNews: false });
    if (!at) select(job.id);
  }
}

// Return the photo as it is to be sent: cut to the clip's shape where the crop was the creator's.
async function cut(photo, of) {
  if (!isCut(photo, of)) return photo;
  const shape = frame(photo, of);
  const bitmap = await createImageBitmap(photo.blob);
  const own = bitmap.width / bitmap.height;
  const width = own > shape.aspect ? Math.round(bitmap.height * shape.aspect) : bitmap.width;
  const height = own > shape.aspect ? bitmap.height : Math.round(bitmap.width / shape.aspect);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const [x, y] = [(bitmap.width - width) * photo.x, (bitmap.height - height) * photo.y];
  canvas.getContext("2d").drawImage(bitmap, Math.round(x), Math.round(y), width, height, 0, 0, width, height);
  bitmap.close();
  const kind = photo.blob.type === "image/png" ? "image/png" : "image/jpeg";
  const blob = await new Promise((done) => canvas.toBlob(done, kind, 0.95));
  return { ...photo, blob };
}
