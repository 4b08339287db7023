// Receive webhooks in Express, with package.json beside this file:
//     npm install
//     STILLREEL_WEBHOOK_SECRET=whsec_... PORT=8000 node express.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import express from "express";

const key = Buffer.from(process.env.STILLREEL_WEBHOOK_SECRET.slice("whsec_".length), "base64");
const clips = process.env.CLIPS_DIR ?? "clips";
fs.mkdirSync(clips, { recursive: true });
const TOLERANCE_SECONDS = 300;

const app = express();

// The raw bytes are signed: express.json() would leave other bytes.
app.post("/stillreel", express.raw({ type: () => true, limit: "1mb" }), (request, response) => {
  if (!verifies(request)) {
    return response.status(401).send("the signature does not verify");
  }
  take(JSON.parse(request.body), request.get("webhook-id"));
  return response.status(204).end();
});

function verifies(request) {
  const id = request.get("webhook-id");
  const timestamp = Number(request.get("webhook-timestamp"));
  if (!id || !Buffer.isBuffer(request.body)) return false;
  if (!(Math.abs(Date.now() / 1000 - timestamp) <= TOLERANCE_SECONDS)) return false;
  const expected = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(request.body);
  const digest = Buffer.from(`v1,${expected.digest("base64")}`);
  // During a rotation there are two signatures, one by each secret.
  return (request.get("webhook-signature") ?? "").split(" ").some((text) => {
    const signature = Buffer.from(text);
    return signature.length === digest.length && timingSafeEqual(signature, digest);
  });
}

// Nothing here waits, so that no two deliveries are taken at once.
function take(event, deliveryId) {
  const seen = path.join(clips, `${deliveryId}.seen`);
  if (fs.existsSync(seen) || !event.type.startsWith("job.")) return;
  const job = event.data;
  const known = path.join(clips, `${job.id}.json`);
  // Deliveries may overtake each other: the higher version is the newer state.
  if (!fs.existsSync(known) || JSON.parse(fs.readFileSync(known)).version < job.version) {
    fs.writeFileSync(known, JSON.stringify(job));
    if (job.status === "succeeded") publish(job);
  }
  fs.writeFileSync(seen, "");
}

// Do here what your site does with a finished clip. Download it: the link ends after a day.
function publish(job) {
  fs.appendFileSync(path.join(clips, "published.txt"), `${job.id} ${job.output.video.url}\n`);
}

app.listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
