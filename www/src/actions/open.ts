// Getting a model that answers: in this browser or on a server; and leaving it for another.
import { deleteModel, type EngineEvent, type MovedSlot } from "reprise";
import { host, state } from "../app";
import { bytes, count, duration, modelTitle, plural } from "../format";
import { DEFAULTS, openBrowser, type BrowserModel } from "../hosts/browser";
import type { Host, Place } from "../hosts/host";
import { hasOwnServer, openServer, ownServer, type ServerAddress } from "../hosts/server";
import { PaceMeter } from "../pace";
import { keepChoices, loadChoices } from "../remember";
import { explain, type During } from "../trouble";
import { refreshSlots } from "./slots";
import { findBundled, refreshStorage } from "./storage";

/** Of the opening under way; a new one cancels it. */
let opening = new AbortController();
/** Whether somebody was faster than the page itself. */
let chosen = false;

/** What the page does first: go on where it was left. */
export async function begin(): Promise<void> {
  const own = await hasOwnServer();
  state.ownServer.value = own;
  const { place = own ? "server" : "browser" } = loadChoices();
  await Promise.all([findBundled(), refreshStorage()]);
  if (!chosen) await moveTo(place);
}

/** Switches between this browser and a server. */
export async function moveTo(place: Place): Promise<void> {
  chosen = true;
  await leave();
  state.place.value = place;
  keepChoices({ place });
  if (place === "server") return serve();
  const { model } = loadChoices();
  const kept = model && state.storage.value.models.find(({ url, complete }) => url === model.url && complete);
  if (kept) return run({ source: kept.url, url: kept.url, name: model.name, keep: false });
  state.phase.value = { kind: "choosing" };
}

/** Connects to the page's own server, or to the one that was given. */
export async function serve(address?: ServerAddress): Promise<void> {
  const { server } = loadChoices();
  const target = address ?? (server !== undefined ? { url: server } : state.ownServer.value ? { url: ownServer() } : undefined);
  if (target === undefined) {
    state.phase.value = { kind: "choosing" };
    return;
  }
  await open("server", async (signal) => {
    state.phase.value = { kind: "waiting", what: `Connecting to ${new URL(target.url).host}` };
    const waiting = (): void => void (state.phase.value = { kind: "waiting", what: "The server is loading its model" });
    const opened = await openServer(target, waiting, signal);
    if (address !== undefined) keepChoices({ server: address.url });
    return opened;
  });
}

/** Runs a model in this browser. */
export async function run(model: BrowserModel): Promise<void> {
  state.place.value = "browser";
  keepChoices({ place: "browser" });
  await open("model", async (signal) => {
    const name = modelTitle(model.name);
    state.phase.value = { kind: "loading", name };
    const meter = new PaceMeter();
    const opened = await openBrowser(
      model,
      { ...DEFAULTS, ...loadChoices().settings },
      {
        progress: (progress) => {
          const pace = meter.note(progress.loaded, progress.total, performance.now());
          if (state.phase.value.kind === "loading") state.phase.value = { kind: "loading", name, progress, pace };
        },
        event: heard,
      },
      signal,
    );
    await refreshStorage();
    if (state.storage.value.models.some(({ url }) => url === model.url)) {
      keepChoices({ model: { url: model.url, name: model.name }, names: { ...loadChoices().names, [model.url]: model.name } });
    }
    return opened;
  });
}

/** Gives up what is being opened. */
export function cancelOpening(): void {
  opening.abort();
}

/** Deletes a kept model; the one that runs is left first. */
export async function forgetModel(url: string): Promise<void> {
  if (host()?.place === "browser" && loadChoices().model?.url === url) await leave();
  await deleteModel(url);
  await refreshStorage();
  if (state.phase.value.kind !== "ready") state.phase.value = { kind: "choosing" };
}

async function open(during: During, opener: (signal: AbortSignal) => Promise<Host>): Promise<void> {
  chosen = true;
  await leave();
  opening = new AbortController();
  const { signal } = opening;
  try {
    const opened = await opener(signal);
    if (signal.aborted) return await opened.close();
    state.phase.value = { kind: "ready", host: opened };
    state.said.value = `${opened.model} is ready.`;
    await Promise.all([refreshSlots(), refreshStorage()]);
  } catch (error) {
    await refreshStorage();
    // Who cancelled has set the phase, unless it was the button.
    if (signal.aborted) {
      if (opening.signal === signal) state.phase.value = { kind: "choosing" };
      return;
    }
    state.phase.value = { kind: "choosing", trouble: explain(error, during) };
  }
}

/** Ends what runs; an engine in this browser writes down its slots first. */
async function leave(): Promise<void> {
  opening.abort();
  state.running.value?.stop();
  const left = host();
  state.slots.value = [];
  state.speeds.value = {};
  state.pinned.value = -1;
  state.notice.value = undefined;
  if (left === undefined) return;
  state.phase.value = { kind: "waiting", what: left.place === "browser" ? "Saving the slots" : "Leaving the server" };
  await left.close().catch(() => undefined);
}

function heard(event: EngineEvent): void {
  switch (event.type) {
    case "restored":
      return cameBack(event.slots);
    case "persistence": {
      const { off: _, ...rest } = state.storage.value;
      state.storage.value = event.enabled ? rest : { ...rest, off: event.reason };
      return;
    }
    case "saved":
      void refreshStorage();
      return;
    case "device-lost":
      state.notice.value = {
        kind: "note",
        title: "The GPU was taken away.",
        text: "The engine is getting it back and restores the slots from what was last saved.",
        detail: event.message,
      };
      return;
    case "device-restored":
      state.notice.value = { kind: "note", title: "The GPU is back.", text: "Go on where you were." };
      return;
    case "device-gone":
      void leave().then(() => {
        state.phase.value = {
          kind: "choosing",
          trouble: {
            title: "The GPU did not come back.",
            advice: "Start the model again, on WebAssembly if it happens again. The conversation is kept.",
            detail: event.message,
          },
        };
      });
      return;
    case "failed":
      state.phase.value = {
        kind: "choosing",
        trouble: {
          title: "The engine stopped unexpectedly.",
          advice: "Start it again. The conversation is kept. If it happens again, choose a smaller model.",
          detail: event.message,
        },
      };
      return;
    default:
  }
}

function cameBack(slots: MovedSlot[]): void {
  const tokens = slots.reduce((sum, slot) => sum + slot.tokens, 0);
  if (tokens === 0) return;
  const size = slots.reduce((sum, slot) => sum + slot.bytes, 0);
  const ms = slots.reduce((sum, slot) => sum + slot.ms, 0);
  state.notice.value = {
    kind: "note",
    title: `${count(tokens)} tokens came back in ${duration(ms)}.`,
    text: `${plural(slots.length, "slot")}, ${bytes(size)}. The next message goes on from there without reading the conversation again.`,
  };
}
