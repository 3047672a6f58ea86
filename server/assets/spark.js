// Small charts over time, drawn as paths. Each has a sentence that says the same.

import { h, setAttribute, setText, svg } from "./dom.js";

const [WIDTH, HEIGHT] = [600, 96];

export class AreaChart {
  // `label(points)` gives the sentence.
  constructor({ label }) {
    this.label = label;
    this.area = svg("path", { class: "chart-area" });
    this.line = svg("path", { class: "chart-line" });
    this.image = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "chart", role: "img" },
      this.area,
      this.line,
    );
    this.top = h("span", { class: "chart-top num" });
    this.from = h("span");
    this.to = h("span");
    this.element = h(
      "div",
      { class: "chart-box" },
      this.top,
      this.image,
      h("div", { class: "chart-axis num", "aria-hidden": "true" }, this.from, this.to),
    );
  }

  // Points with `x` and `y`, in order; `most` is the top of the scale, else the highest point is.
  set({ points, from, to, most = null, format, fromText, toText }) {
    const top = Math.max(most ?? Math.max(...points.map((point) => point.y), 0), 1e-9);
    const width = Math.max(to - from, 1);
    const place = ({ x, y }) =>
      `${(((x - from) / width) * WIDTH).toFixed(1)},${(HEIGHT - 2 - (Math.min(y, top) / top) * (HEIGHT - 6)).toFixed(1)}`;
    const line = points.map((point, index) => `${index === 0 ? "M" : "L"}${place(point)}`).join("");
    setAttribute(this.line, "d", line);
    const end = points.length > 0 ? points[points.length - 1] : null;
    setAttribute(
      this.area,
      "d",
      end
        ? `${line}L${place({ x: end.x, y: 0 }).split(",")[0]},${HEIGHT}L${place({ x: points[0].x, y: 0 }).split(",")[0]},${HEIGHT}Z`
        : "",
    );
    setText(this.top, top > 1e-6 ? format(top) : "");
    setText(this.from, fromText);
    setText(this.to, toText);
    setAttribute(this.image, "aria-label", this.label(points));
  }
}
