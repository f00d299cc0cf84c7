// The head of the page: name, where the model runs, which one, the conversations, and the panel's switch.
import { moveTo } from "../actions/open";
import { host, state } from "../app";
import { byId, fill, h } from "../dom";
import type { Place } from "../hosts/host";
import { keepChoices } from "../remember";
import { draws } from "../signal";
import { chatsMenu } from "./chats";
import { mark } from "./mark";

export function top(): void {
  const where = h("div", { class: "switch", role: "group", "aria-label": "Where the model runs" });
  const model = h("p", { class: "running" });
  const toggle = h("button", {
    type: "button",
    class: "quiet panel-toggle",
    "aria-controls": "panel",
    "aria-keyshortcuts": "Alt+S",
    click: togglePanel,
  });
  fill(byId("top"), h("h1", { class: "brand" }, mark(), "Reprise"), where, model, chatsMenu(), toggle);

  draws([state.place, state.ownServer], () => fill(where, choice("browser"), choice("server")));
  draws([state.phase], () => {
    const ready = host();
    fill(model, ready && [h("strong", {}, ready.model), h("span", {}, ready.runtime.name)]);
    model.title = ready?.model ?? "";
  });
  // At once: whoever opens the panel may want to go into it.
  state.panel.watch((open) => {
    document.body.classList.toggle("panel-open", open);
    toggle.setAttribute("aria-expanded", String(open));
    fill(toggle, open ? "Hide slots" : "Slots");
  });
}

function choice(place: Place): HTMLElement {
  const chosen = state.place.value === place;
  const server = state.ownServer.value ? "On this server" : "On a server";
  return h(
    "button",
    { type: "button", "data-key": place, "aria-pressed": String(chosen), click: () => void (chosen || moveTo(place)) },
    h("span", { class: "wide" }, place === "browser" ? "In this browser" : server),
    h("span", { class: "narrow", "aria-hidden": "true" }, place === "browser" ? "Browser" : "Server"),
  );
}

/** Shows or hides the panel; on a narrow screen it takes the conversation's place. */
export function togglePanel(): void {
  const open = !state.panel.value;
  state.panel.value = open;
  if (matchMedia("(min-width: 60rem)").matches) keepChoices({ panelClosed: !open });
}
