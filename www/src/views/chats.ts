// The menu of conversations.
import { newChat, removeChat, switchChat } from "../actions/chat";
import { state } from "../app";
import { chatTitle } from "../chats";
import { fill, h, icon, ICONS } from "../dom";
import { draws } from "../signal";

export function chatsMenu(): HTMLElement {
  const list = h("ul", { class: "chat-list" });
  const remove = h("button", { type: "button", class: "quiet danger", click: () => act(removeChat) }, "Delete this chat");
  const menu = h(
    "details",
    { class: "menu" },
    h("summary", {}, "Chats", icon(ICONS.down)),
    h("div", { class: "sheet" }, list, remove),
  );
  const start = h(
    "button",
    { type: "button", class: "quiet new-chat", "aria-keyshortcuts": "Alt+N", click: () => act(newChat) },
    icon(ICONS.plus),
    h("span", { class: "wide" }, "New chat"),
    h("span", { class: "unseen narrow" }, "New chat"),
  );

  const act = (action: () => void): void => {
    menu.open = false;
    action();
    document.getElementById("message")?.focus();
  };
  // A menu closes when the focus or a click goes elsewhere, and with Escape.
  menu.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget instanceof Node && !menu.contains(relatedTarget)) menu.open = false;
  });
  document.addEventListener("click", ({ target }) => {
    if (target instanceof Node && !menu.contains(target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector("summary")?.focus();
  });

  draws([state.chats], () => {
    const { current, others } = state.chats.value;
    remove.hidden = current.messages.length === 0;
    fill(
      list,
      h("li", {}, h("button", { type: "button", "aria-current": "true", click: () => act(() => undefined) }, chatTitle(current))),
      others.map((chat) => h("li", {}, h("button", { type: "button", click: () => act(() => switchChat(chat.id)) }, chatTitle(chat)))),
    );
  });
  return h("div", { class: "chats" }, menu, start);
}
