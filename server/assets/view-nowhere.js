import { h } from "./dom.js";

export default function nowhere(main) {
  main.append(
    h(
      "div",
      { class: "empty" },
      h("h1", {}, "There is no such page"),
      h("p", {}, h("a", { href: "#/overview" }, "To the overview")),
    ),
  );
  return { title: "Not found" };
}
