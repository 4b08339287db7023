import { html } from "../html.js";

const SHAPES = {
  play: "M8 5.500v13l11-6.500z",
  pause: "M7.500 5.500h3.200v13H7.500zM13.300 5.500h3.200v13h-3.200z",
  before: "M15 6l-6 6 6 6",
  after: "M9 6l6 6-6 6",
  full: "M4.500 9.500v-5h5M14.500 4.500h5v5M19.500 14.500v5h-5M9.500 19.500h-5v-5",
  close: "M6.500 6.500l11 11M17.500 6.500l-11 11",
};
const SOLID = new Set(["play", "pause"]);

export const Icon = ({ name }) => html`
  <svg class=${`glyph ${SOLID.has(name) ? "is-solid" : ""}`} viewBox="0 0 24 24" width="20" height="20" aria-hidden="true"><path d=${SHAPES[name]} /></svg>`;
