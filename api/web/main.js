import { html, render } from "./html.js";
import { App } from "./parts/app.js";
import * as api from "./api.js";
import * as jobs from "./jobs.js";
import { set, state } from "./state.js";
import { onWords, speak } from "./i18n.js";

await speak();
onWords(() => set({}));
render(html`<${App} />`, document.getElementById("app"));

api.onRefusal((error) => state.phase !== "sign-in" && set({ phase: "sign-in", signInError: error }));

export async function enter() {
  try {
    const who = await api.whoAmI();
    const [models, queue] = await Promise.all([api.listModels(), api.readQueue()]);
    set({ models, queue, who, phase: "ready", isOnline: true });
    await jobs.showAsked();
  } catch (error) {
    if (error.status === 401) return;
    set(error.status === 403 ? { phase: "sign-in", signInError: error } : { phase: "unreachable" });
    if (error.status !== 403) setTimeout(enter, 2000);
  }
}

addEventListener("popstate", () => state.phase === "ready" && jobs.showAsked());
addEventListener("stillreel:signed-in", async () => {
  jobs.restart();
  await enter();
  jobs.soon(0);
});
// A download takes minutes: who waits for it sees it go on, and end.
async function watchWeights() {
  setTimeout(watchWeights, 5000);
  if (state.phase !== "ready" || !state.models.some(({ weights }) => weights && weights.state !== "ready")) return;
  try {
    set({ models: await api.listModels() });
  } catch {
    // Asked again in the next round; the jobs' own reads say what is wrong.
  }
}

await enter();
jobs.start();
watchWeights();
