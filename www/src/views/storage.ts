// What this browser keeps: how much, and which models and slots.
import { forgetModel } from "../actions/open";
import { state } from "../app";
import { byId, fill, h, type Child } from "../dom";
import { bytes, count, modelTitle } from "../format";
import { loadChoices } from "../remember";
import { draws } from "../signal";

export function storage(): void {
  draws([state.storage], () => {
    const { used, quota, models, images, off } = state.storage.value;
    const { names = {} } = loadChoices();
    fill(
      byId("storage"),
      h("h2", { id: "storage-title" }, "Storage"),
      used !== undefined && quota !== undefined && amount(used, quota),
      off !== undefined && h("p", { class: "trouble" }, h("strong", {}, "Slots are not kept. "), off),
      models.length + images.length === 0
        ? h("p", { class: "none" }, "No models or slots are kept in this browser.")
        : h(
            "ul",
            { class: "kept" },
            models.map(({ url, name, loaded, complete }) =>
              h(
                "li",
                {},
                h("span", {}, modelTitle(names[url] ?? name), !complete && " (partly)"),
                h("span", {}, bytes(loaded)),
                h(
                  "button",
                  { type: "button", class: "quiet", "data-key": `delete-${url}`, "aria-label": `Delete ${names[url] ?? name}`, click: () => void forgetModel(url) },
                  "Delete",
                ),
              ),
            ),
            images.map(({ name, bytes: size, tokens, automatic }) =>
              h("li", {}, h("span", {}, automatic ? `Slot ${name.split("/").pop()}, kept by itself` : name), h("span", {}, [tokens === null ? "" : `${count(tokens)} tokens`, size === null ? "" : bytes(size)].filter(Boolean).join(" · "))),
            ),
          ),
    );
  });
}

function amount(used: number, quota: number): Child {
  const share = quota > 0 ? used / quota : 0;
  return [
    h("meter", { min: 0, max: 1, high: 0.9, value: share, "aria-label": "Storage used" }, `${Math.round(share * 100)} %`),
    h("p", { class: "amount" }, h("strong", {}, bytes(used)), " used, ", bytes(Math.max(0, quota - used)), " free"),
  ];
}
