// The settings that an MP4 made here carries: JSON in its `comment`, in the iTunes way.

const MAX_BYTES = 512 * 1024 * 1024;
const INSIDE = { moov: 0, udta: 0, meta: 4, ilst: 0, "©cmt": 0 };

export async function readClip(file) {
  if (file.size > MAX_BYTES) return null;
  try {
    const view = new DataView(await file.arrayBuffer());
    const found = find(view, 0, view.byteLength, Object.keys(INSIDE));
    if (!found) return null;
    const settings = JSON.parse(found);
    return typeof settings?.engine === "string" ? settings : null;
  } catch {
    return null;
  }
}

function find(view, from, to, [name, ...deeper]) {
  for (let at = from; at + 8 <= to; ) {
    const size = view.getUint32(at) || to - at;
    const kind = String.fromCharCode(...[4, 5, 6, 7].map((byte) => view.getUint8(at + byte)));
    const length = size === 1 ? Number(view.getBigUint64(at + 8)) : size;
    if (length < 8) return null;
    const body = at + (size === 1 ? 16 : 8);
    if (kind === name) {
      // A `data` box: its size, its name, four bytes of type, four of locale, the text.
      if (!deeper.length) return new TextDecoder().decode(new Uint8Array(view.buffer, body + 16, length - 24));
      return find(view, body + INSIDE[name], at + length, deeper);
    }
    at += length;
  }
  return null;
}
