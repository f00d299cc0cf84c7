// Where the page starts: draws the views, then finds a model to talk to.
import "./style/base.css";
import "./style/layout.css";
import "./style/choose.css";
import "./style/chat.css";
import "./style/panel.css";
import { begin } from "./actions/open";
import { keep } from "./actions/chat";
import { watchSlots } from "./actions/slots";
import { state } from "./app";
import { byId } from "./dom";
import { drops, keys } from "./keys";
import { keepShell } from "./shell";
import { composer } from "./views/composer";
import { engine } from "./views/engine";
import { notice } from "./views/notice";
import { slots } from "./views/slots";
import { stage } from "./views/stage";
import { storage } from "./views/storage";
import { top } from "./views/top";

top();
notice();
stage();
composer();
slots();
engine();
storage();
keys();
drops();

state.said.watch((text) => void (byId("say").textContent = text));
for (const event of ["online", "offline"]) addEventListener(event, () => void (state.online.value = navigator.onLine));
// An answer under way is written down with what there is of it.
addEventListener("pagehide", () => keep());

void keepShell();
void begin();
void watchSlots();
