// Questions before something is done. The browser's own dialogs of the page: Escape closes them, and Tab stays inside.

import { h } from "./dom.js";

let opened = null;

export function anyDialogOpen() {
  // Its closing is told a little later than it is closed.
  return opened?.open === true;
}

// Shows `content` until it is closed; `close` comes with it.
export function show({ title, className = "", content, onClose }) {
  opened?.close();
  const heading = h("h2", { id: "dialog-title" }, title);
  const element = h("dialog", { class: `dialog ${className}`, "aria-labelledby": "dialog-title" }, heading);
  const close = () => element.close();
  element.append(...[content(close)].flat());
  element.addEventListener("close", () => {
    element.remove();
    if (opened === element) opened = null;
    onClose?.();
  });
  element.addEventListener("click", (event) => {
    if (event.target === element) close();
  });
  document.body.append(element);
  opened = element;
  element.showModal();
  return element;
}

// Asks; the values of the fields when it is confirmed, else null. `fields`: { name, label, type, value, hint, required, options }.
export function ask({ title, says, confirm, danger = false, fields = [] }) {
  return new Promise((resolve) => {
    let answer = null;
    show({
      title,
      onClose: () => resolve(answer),
      content: (close) => {
        const inputs = new Map();
        const form = h(
          "form",
          { class: "stack" },
          [says]
            .flat()
            .filter(Boolean)
            .map((part) => (part instanceof Node ? part : h("p", {}, part))),
          fields.map((field) => fieldOf(field, inputs)),
          h(
            "div",
            { class: "dialog-acts" },
            h("button", { type: "button", class: "button", on: { click: close } }, "Not now"),
            h("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, confirm),
          ),
        );
        form.addEventListener("submit", (event) => {
          event.preventDefault();
          answer = Object.fromEntries(
            [...inputs].map(([name, input]) => [name, input.type === "checkbox" ? input.checked : input.value.trim()]),
          );
          close();
        });
        return form;
      },
    });
  });
}

export function fieldOf({ name, label, type = "text", value = "", hint, required, options, attributes }, inputs) {
  const id = `field-${name}`;
  const described = hint ? `${id}-hint` : null;
  const common = { id, name, required, "aria-describedby": described, autocomplete: "off", ...attributes };
  const input =
    type === "select"
      ? h(
          "select",
          common,
          options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)),
        )
      : h("input", {
          ...common,
          type,
          value: type === "checkbox" ? undefined : value,
          checked: type === "checkbox" && value,
        });
  inputs.set(name, input);
  const says = hint ? h("span", { class: "hint", id: described }, hint) : null;
  if (type === "checkbox") return h("div", { class: "field check" }, input, h("label", { for: id }, label), says);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, says);
}
