import { frame, isCut } from "./form.js";
import { model } from "./state.js";

// Return the photo as it is to be sent: cut to the clip's shape where the crop was the creator's.
export async function cut(photo, of = model()) {
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
