// The line above the conversation: something went wrong, or something worth knowing happened.
import { state, type Notice } from "../app";
import { byId, fill, h, icon, ICONS } from "../dom";
import { draws } from "../signal";

/** How long a note stays, milliseconds; errors stay until they are closed. */
const STAY = 12_000;

export function notice(): void {
  let timer = 0;
  const place = byId("notice");
  draws([state.notice], () => {
    clearTimeout(timer);
    const { value } = state.notice;
    fill(place, value && line(value));
    if (value?.kind === "note") timer = window.setTimeout(() => void (state.notice.value = undefined), STAY);
  });
}

function line({ kind, title, text, detail, action }: Notice): HTMLElement {
  const close = (): void => void (state.notice.value = undefined);
  return h(
    "div",
    { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" },
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, title), text !== "" && ` ${text}`),
      detail !== undefined && kind === "error" && h("details", {}, h("summary", {}, "Details"), h("p", {}, detail)),
    ),
    action && h("button", { type: "button", click: () => { close(); action.run(); } }, action.label),
    h("button", { type: "button", class: "quiet", "aria-label": "Close this message", click: close }, icon(ICONS.close)),
  );
}
