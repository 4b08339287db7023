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
    const asked = location.hash.slice(1);
    if (asked.startsWith("job_")) {
      set({ selected: asked });
      await api.readJob(asked).then((job) => jobs.learn([job]), () => set({ selected: null }));
    }
  } catch (error) {
    if (error.status === 401) return;
    set(error.status === 403 ? { phase: "sign-in", signInError: error } : { phase: "unreachable" });
    if (error.status !== 403) setTimeout(enter, 2000);
  }
}

addEventListener("stillreel:signed-in", async () => {
  await enter();
  jobs.restart();
});
await enter();
jobs.start();
