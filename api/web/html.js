// The one place that joins preact and htm; components import from here.
import { Component, Fragment, h, render } from "./vendor/preact.mjs";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import htm from "./vendor/htm.mjs";

export { Component, Fragment, h, render, useEffect, useLayoutEffect, useMemo, useRef, useState };
export const html = htm.bind(h);
