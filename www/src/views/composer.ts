// Where messages are written, sent and stopped.
import { send, stop } from "../actions/chat";
import { host, state } from "../app";
import { byId, fill, h, icon, ICONS } from "../dom";
import { draws } from "../signal";

export function composer(): void {
  const form = byId<HTMLFormElement>("composer");
  const text = h("textarea", {
    id: "message",
    rows: 1,
    placeholder: "Write a message",
    "aria-label": "Message",
    "aria-keyshortcuts": "Alt+M",
    "aria-describedby": "message-hint",
  });
  const slot = h("select", { id: "slot", change: () => void (state.pinned.value = Number(slot.value)) });
  const sendButton = h("button", { class: "primary send" }, icon(ICONS.send), "Send");
  const stopButton = h(
    "button",
    { type: "button", class: "primary stop", "aria-keyshortcuts": "Escape", click: () => endAndReturn() },
    icon(ICONS.stop),
    "Stop",
  );
  const tools = h(
    "div",
    { class: "tools" },
    h("label", { class: "slot-choice" }, "Slot ", slot),
    h("p", { id: "message-hint", class: "hint" }, "Enter sends · Shift+Enter new line · Esc stops · Alt+H help"),
    sendButton,
    stopButton,
  );
  fill(form, h("div", { class: "box" }, text, tools));

  const grow = (): void => {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight + 2, innerHeight / 3)}px`;
  };
  const endAndReturn = (): void => {
    stop();
    text.focus();
  };
  const submit = (): void => {
    const message = text.value.trim();
    if (message === "" || state.running.value !== undefined || host() === undefined) return;
    text.value = "";
    grow();
    void send(message);
  };
  text.addEventListener("input", grow);
  text.addEventListener("keydown", (event) => {
    // While an input method composes, Enter chooses a word.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  draws([state.phase, state.running], () => {
    const ready = host() !== undefined;
    const running = state.running.value !== undefined;
    const focused = document.activeElement === sendButton || document.activeElement === stopButton;
    sendButton.hidden = running;
    sendButton.disabled = !ready;
    text.placeholder = ready ? "Write a message" : "Write here once a model runs";
    stopButton.hidden = !running;
    if (focused) (running ? stopButton : text).focus();
  });
  draws([state.slots, state.pinned], () => {
    const ids = state.slots.value.map(({ id }) => id);
    if (slot.options.length !== ids.length + 1) {
      slot.replaceChildren(new Option("any", "-1"), ...ids.map((id) => new Option(String(id), String(id))));
    }
    slot.value = String(state.pinned.value);
  });
}
