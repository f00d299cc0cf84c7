// WebGPU before the module starts: whether it is there, and a device feature that wgpu does not ask for by itself.

import { failure } from "./errors.js";

/** Of the API only what is used here. */
interface Adapter {
  readonly features: ReadonlySet<string>;
  requestDevice(descriptor?: { requiredFeatures?: Iterable<string> }): Promise<object>;
}

interface Gpu {
  requestAdapter(): Promise<Adapter | null>;
}

/** Fails with the reason when there is no WebGPU. */
export async function checkGpu(): Promise<void> {
  const { gpu } = navigator as { gpu?: Gpu };
  if (!gpu) {
    const secure = globalThis.isSecureContext ? "" : " Pages need https (or localhost) for it.";
    throw failure("no_webgpu", `This browser has no WebGPU.${secure} Use the backend "auto" or "wasm".`);
  }
  if (!(await gpu.requestAdapter())) {
    throw failure("no_webgpu", 'WebGPU finds no graphics adapter on this machine. Use the backend "auto" or "wasm".');
  }
}

/** wgpu has no word for the browsers' `subgroups` and never asks for it; every device of this worker gets it. */
export function askForSubgroups(): void {
  const { GPUAdapter } = globalThis as { GPUAdapter?: { prototype: Adapter } };
  if (!GPUAdapter) return;
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (this: Adapter, descriptor = {}) {
    const requiredFeatures = new Set(descriptor.requiredFeatures);
    if (this.features.has("subgroups")) requiredFeatures.add("subgroups");
    return requestDevice.call(this, { ...descriptor, requiredFeatures });
  };
}
