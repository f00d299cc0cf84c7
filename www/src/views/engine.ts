// What computes, how fast, and the way to another model.
import { moveTo } from "../actions/open";
import { host, state } from "../app";
import { byId, fill, h, type Child } from "../dom";
import { count, rate } from "../format";
import { keepChoices } from "../remember";
import { draws } from "../signal";

export function engine(): void {
  draws([state.phase, state.speeds, state.online], () => {
    fill(byId("engine"), h("h2", { id: "engine-title" }, "Engine"), facts());
  });
}

function facts(): Child {
  const ready = host();
  if (ready === undefined) return h("p", { class: "none" }, state.online.value ? "No model runs." : "No model runs. There is no connection.");
  const { reading, writing } = state.speeds.value;
  return [
    h(
      "dl",
      { class: "facts" },
      row("Model", ready.model),
      row("Runs on", [ready.runtime.name, ready.runtime.detail].filter(Boolean).join(", ")),
      row(ready.place === "browser" ? "Because" : "Server", ready.runtime.reason),
      ready.place === "browser" && !crossOriginIsolated && row("Threads", "one: the page is not isolated"),
      row("Context", `${count(ready.context)} tokens a slot`),
      row("Reads", reading === undefined ? "not measured yet" : rate(reading)),
      row("Writes", writing === undefined ? "not measured yet" : rate(writing)),
    ),
    h("button", { type: "button", "data-key": "another", click: another }, ready.place === "browser" ? "Another model" : "Another server"),
  ];
}

const row = (name: string, value: string): HTMLElement => h("div", {}, h("dt", {}, name), h("dd", {}, value));

function another(): void {
  const place = state.place.value;
  keepChoices(place === "browser" ? { model: undefined } : { server: undefined });
  void moveTo(place).then(() => place === "server" && (state.phase.value = { kind: "choosing" }));
}
