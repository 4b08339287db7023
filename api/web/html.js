// The one place that joins preact and htm; components import from here.
import { Component, Fragment, h, render } from "./vendor/preact.mjs";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";
import htm from "./vendor/htm.mjs";

export { Component, Fragment, h, render, useEffect, useLayoutEffect, useMemo, useRef, useState };
export const html = htm.bind(h);

// Draw a component again only when one of its properties is another one.
export function memo(draw) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = Object.keys({ ...next, ...this.props });
      return names.some((name) => name !== "children" && next[name] !== this.props[name]);
    }
    render(props) {
      return h(draw, props);
    }
  };
}
