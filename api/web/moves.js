// Camera moves: their words in a prompt, and their look as CSS variables.

// The order is that of the picker. English in the third person, Chinese as said of the camera.
const WORDS = {
  push_in: ["pushes in", "推近"],
  pull_out: ["pulls out", "拉远"],
  pan_left: ["pans left", "向左摇"],
  pan_right: ["pans right", "向右摇"],
  tilt_up: ["tilts up", "向上摇"],
  tilt_down: ["tilts down", "向下摇"],
  arc_left: ["arcs left", "向左环绕"],
  arc_right: ["arcs right", "向右环绕"],
  roll_clockwise: ["rolls clockwise", "顺时针旋转"],
  roll_counterclockwise: ["rolls counterclockwise", "逆时针旋转"],
  handheld: ["sways", "晃动"],
  still: ["stays still", "保持静止"],
};
const ADVERBS = { slow: ["slowly ", "缓慢"], normal: ["", ""], quick: ["quickly ", "快速"] };
const OPPOSITES = [
  ["push_in", "pull_out"], ["pan_left", "pan_right"], ["tilt_up", "tilt_down"],
  ["arc_left", "arc_right"], ["roll_clockwise", "roll_counterclockwise"],
];
export const MOVES = Object.keys(WORDS);
export const SPEEDS = Object.keys(ADVERBS);
export const MAX_MOVES = 2;

const byWord = (table, at) => new Map(Object.entries(table).map(([name, words]) => [words[at], name]));
const any = (table, at) => Object.values(table).map((words) => words[at]).sort((a, b) => b.length - a.length).join("|");
const SENTENCES = [
  new RegExp(`The camera (${any(ADVERBS, 0)})(${any(WORDS, 0)})(?: and (${any(WORDS, 0)}))?\\.?`, "i"),
  new RegExp(`镜头(${any(ADVERBS, 1)})(${any(WORDS, 1)})(?:，并(${any(WORDS, 1)}))?。?`),
];
const LOOSE = {
  push_in: /\bzoom(?:s|ing)? in\b|\bpush(?:es|ing)?[- ]in\b|\bdolly in\b|推近|推进|拉近/i,
  pull_out: /\bzoom(?:s|ing)? out\b|\bpull(?:s|ing)?[- ](?:out|back)\b|拉远/i,
  pan_left: /\bpan(?:s|ning)? (?:to the )?left\b|向左(?:平移|摇|移)/i,
  pan_right: /\bpan(?:s|ning)? (?:to the )?right\b|向右(?:平移|摇|移)/i,
  tilt_up: /\btilt(?:s|ing)? up\b|向上(?:摇|移)/i,
  tilt_down: /\btilt(?:s|ing)? down\b|向下(?:摇|移)/i,
  arc_left: /\b(?:arc|orbit)(?:s|ing)? (?:to the )?left\b|向左环绕/i,
  arc_right: /\b(?:arc|orbit)(?:s|ing)? (?:to the )?right\b|向右环绕/i,
  roll_clockwise: /\broll(?:s|ing)? clockwise\b|顺时针/i,
  roll_counterclockwise: /\broll(?:s|ing)? counter-?clockwise\b|逆时针/i,
  handheld: /\bhand-?held\b|手持/i,
  still: /\b(?:static|still|fixed) (?:camera|shot)\b|固定镜头/i,
};
const DENIED = /\b(?:no|not|without|never|don't|avoid)\b|不要|不|无|别/i;

export function sentence(moves, speed, language) {
  if (!moves.length) return "";
  const at = language === "zh" ? 1 : 0;
  const [first, second] = moves.map((name) => WORDS[name][at]);
  const adverb = moves.every((name) => name === "still") ? "" : ADVERBS[speed][at];
  return at
    ? `镜头${adverb}${first}${second ? `，并${second}` : ""}。`
    : `The camera ${adverb}${first}${second ? ` and ${second}` : ""}.`;
}

// Return what a prompt asks of the camera, as far as the page's own words or plain ones say it.
export function readPrompt(prompt) {
  for (const [at, pattern] of SENTENCES.entries()) {
    const match = pattern.exec(prompt);
    if (!match) continue;
    const speed = byWord(ADVERBS, at).get(match[1].toLowerCase()) || "normal";
    const names = [match[2], match[3]].filter(Boolean);
    const moves = names.map((word) => byWord(WORDS, at).get(word.toLowerCase()));
    return { moves, speed, match: match[0] };
  }
  const moves = DENIED.test(prompt) ? [] : MOVES.filter((name) => LOOSE[name].test(prompt));
  const speed = /\bslow|缓|慢/i.test(prompt) ? "slow" : /\bquick|\bfast|快/i.test(prompt) ? "quick" : "normal";
  return { moves: moves.slice(0, MAX_MOVES), speed, match: null };
}

// Return the prompt with these moves in words; what else it says stays.
export function writePrompt(prompt, moves, speed, language) {
  const found = readPrompt(prompt);
  const said = sentence(moves, speed, language);
  let rest = prompt;
  if (found.match) return tidy(rest.replace(found.match, said));
  for (const name of found.moves) rest = rest.replace(LOOSE[name], "");
  if (found.moves.length) rest = rest.replace(/\b(?:slow(?:ly)?|quick(?:ly)?)\b|缓慢地?|快速地?/i, "");
  if (!/[\p{L}\p{N}]/u.test(rest)) rest = "";
  const gap = rest && !/[。！？]\s*$/.test(rest) ? " " : "";
  return tidy(said ? `${rest.trimEnd()}${gap}${said}` : rest);
}

const tidy = (text) => text.replace(/ {2,}/g, " ").replace(/ +([,.])/g, "$1").trim();

export function toggle(moves, name) {
  if (moves.includes(name)) return moves.filter((each) => each !== name);
  if (name === "still") return ["still"];
  const foe = OPPOSITES.find((pair) => pair.includes(name))?.find((each) => each !== name);
  const kept = moves.filter((each) => each !== foe && each !== "still");
  return [...kept.slice(-(MAX_MOVES - 1)), name];
}

// How far a move goes at normal speed, as the camera engine's: a zoom factor, parts of the
// image, degrees.
const POSES = {
  push_in: { z1: 1.2 }, pull_out: { z0: 1.2 },
  pan_left: { x0: -6, x1: 6 }, pan_right: { x0: 6, x1: -6 },
  tilt_up: { y0: -6, y1: 6 }, tilt_down: { y0: 6, y1: -6 },
  arc_left: { w1: 15 }, arc_right: { w1: -15 },
  roll_clockwise: { r1: -4 }, roll_counterclockwise: { r1: 4 },
  handheld: {}, still: {},
};
const REACH = { slow: 0.5, normal: 1, quick: 1.8 };

// Return CSS variables for `.camera`: the image's transform at the start and the end.
export function pose(moves, speed, { more = 1, aspect = 1.5 } = {}) {
  const reach = REACH[speed] * more;
  const sum = { z0: 1, z1: 1, x0: 0, x1: 0, y0: 0, y1: 0, r0: 0, r1: 0, w0: 0, w1: 0 };
  for (const name of moves) {
    for (const [part, value] of Object.entries(POSES[name])) {
      if (part[0] === "z") sum[part] *= value ** reach;
      else sum[part] += value * reach;
    }
  }
  const slide = Math.max(...["x0", "x1", "y0", "y1"].map((part) => Math.abs(sum[part])));
  const turn = (Math.max(Math.abs(sum.r0), Math.abs(sum.r1)) * Math.PI) / 180;
  const orbit = Math.max(Math.abs(sum.w0), Math.abs(sum.w1));
  const tall = Math.max(aspect, 1 / aspect);
  const sway = moves.includes("handheld") ? 1 + 0.035 * reach : 1;
  const cover = sway * (1 / (1 - slide / 50)) * (Math.cos(turn) + tall * Math.sin(turn)) * (1 + orbit * 0.021);
  return {
    "--z0": sum.z0 * cover, "--z1": sum.z1 * cover,
    "--x0": `${sum.x0}%`, "--x1": `${sum.x1}%`, "--y0": `${sum.y0}%`, "--y1": `${sum.y1}%`,
    "--r0": `${sum.r0}deg`, "--r1": `${sum.r1}deg`, "--w0": `${sum.w0}deg`, "--w1": `${sum.w1}deg`,
    "--sway": `${moves.includes("handheld") ? 1.1 * reach : 0}%`,
  };
}
