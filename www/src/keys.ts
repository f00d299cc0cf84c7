// Shortcuts and dropped files. Every shortcut has a modifier, so that none gets in the way of speech input.
import { newChat, stop } from "./actions/chat";
import { state } from "./app";
import { byId } from "./dom";
import { runFile } from "./views/choose";
import { help } from "./views/dialog";
import { togglePanel } from "./views/top";

const ALT: Record<string, () => void> = {
  KeyM: () => byId("message").focus(),
  KeyN: () => {
    newChat();
    byId("message").focus();
  },
  KeyS: () => {
    togglePanel();
    if (state.panel.value) document.querySelector<HTMLElement>("#panel button:not(:disabled)")?.focus();
  },
  KeyH: help,
};

export function keys(): void {
  document.addEventListener("keydown", (event) => {
    // The dialog closes itself.
    if (byId<HTMLDialogElement>("dialog").open) return;
    if (event.key === "Escape" && state.running.value !== undefined) {
      stop();
      byId("message").focus();
    }
    // By place on the keyboard: with Alt some systems give other characters.
    const action = event.altKey && !event.ctrlKey && !event.metaKey ? ALT[event.code] : undefined;
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
}

/** A GGUF file that is dropped anywhere on the page runs in this browser. */
export function drops(): void {
  const hasFile = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") === true;
  const over = (on: boolean): void => void document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    over(false);
    const file = event.dataTransfer?.files[0];
    if (file !== undefined) runFile(file);
  });
}
