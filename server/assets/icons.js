// Drawings, 16 by 16, in the colour of the text beside them. Each is decoration: words stand beside it or in its button's label.

import { svg } from "./dom.js";

const PATHS = {
  overview: "M2 2.5h5v6H2zM9 2.5h5v3.5H9zM9 8h5v5.5H9zM2 10.5h5v3H2z",
  jobs: "M5.5 4h8M5.5 8h8M5.5 12h8M2.5 4h.01M2.5 8h.01M2.5 12h.01",
  crawlers:
    "M8 5.5a3 3 0 0 1 3 3v2a3 3 0 0 1-6 0v-2a3 3 0 0 1 3-3zM6 5.8 4.6 3.2M10 5.8l1.4-2.6M5 8.5H2.2M13.8 8.5H11M5.2 11.5 3 13.4M10.8 11.5 13 13.4",
  areas: "M8 2v4M8 6H3.5v3.5M8 6h4.5v3.5M2 9.5h3V13H2zM11 9.5h3V13h-3zM6.5 9.5h3V13h-3zM8 6v3.5",
  errors: "M8 2.2 14.3 13.3H1.7zM8 6.4v3.2M8 11.5h.01",
  log: "M3 3.5h10M3 6.5h7M3 9.5h10M3 12.5h5",
  queue: "M3 3h10v3H3zM3 8h10M3 11h10M3 13.5h10",
  plus: "M8 3v10M3 8h10",
  running: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5M6.7 5.7v4.6L10.4 8z",
  assigned: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM5 8h5.5M8.5 6l2 2-2 2",
  queued: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11z",
  delayed: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 5v3.2l2.2 1.4",
  paused: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM6.6 6v4M9.4 6v4",
  completed: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM5.6 8.2l1.7 1.7 3.2-3.6",
  failed: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM6.2 6.2l3.6 3.6M9.8 6.2 6.2 9.8",
  cancelled: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM4.2 11.8l7.6-7.6",
  unknown: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 10.8h.01M6.6 6.4c.3-1.6 2.9-1.4 2.8.2-.1 1-1.4 1.1-1.4 2.2",
  light:
    "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6zM8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
  dark: "M13 9.6A5.4 5.4 0 0 1 6.4 3a5.4 5.4 0 1 0 6.6 6.6z",
  auto: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  help: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM8 10.9h.01M6.5 6.4c.3-1.7 3-1.5 3 .2 0 1.1-1.5 1.2-1.5 2.3",
  open: "M6 4l4 4-4 4",
  search: "M7 2.8a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 0 0 0-8.4zM10.2 10.2l3 3",
  group: "M2 4.2h4.2l1.2 1.4H14v6.9H2z",
  project: "M3.5 2.5h9v11h-9zM6 5.5h4M6 8h4",
  user: "M8 3a2.4 2.4 0 1 0 0 4.8A2.4 2.4 0 0 0 8 3zM3.4 13.2c.4-5 8.8-5 9.2 0",
  host: "M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM2.5 8h11M8 2.5c-3.3 3.4-3.3 7.6 0 11 3.3-3.4 3.3-7.6 0-11z",
  back: "M13 8H3.5M7 4 3 8l4 4",
};

const ALIASES = { cancelling: "cancelled", pausing: "paused" };

export function icon(name, className = "icon") {
  const path = PATHS[ALIASES[name] ?? name] ?? PATHS.unknown;
  return svg(
    "svg",
    { viewBox: "0 0 16 16", class: className, "aria-hidden": "true", focusable: "false" },
    svg("path", {
      d: path,
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "stroke-linecap": "round",
      "stroke-linejoin": "round",
    }),
  );
}
