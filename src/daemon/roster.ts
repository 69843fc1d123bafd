/**
 * Who is there: the overlays that run, those that are only on disk, and what can be said about either.
 *
 * A few hundred overlays at most: whatever is not found by name is found by looking at all of them, so that there is
 * one map and nothing to keep in step with it.
 */
import type { Failure, Methods, OverlayInfo, VnicInfo } from '../control/messages.js';
import { OverlayError, STATUS_WORDS } from '../core/errors.js';
import { printable } from '../core/properties.js';
import type { Overlay } from './overlay.js';
import type { StateStore } from './persistence.js';
import type { StoredOverlay, StoredVnic } from './state-schema.js';

/** sd_notify(3) takes one line, and this has room for more in its datagram. */
const SUMMARY_CHARACTERS = 400;

export class Roster {
  /** Running ones by name, in the order of their start. */
  readonly overlays = new Map<string, Overlay>();
  /** Those that are being started, by name. */
  readonly starting = new Map<string, Overlay>();
  /** Why a stored overlay or VNIC does not run. */
  readonly reasons = new Map<string, string>();
  readonly #store: StateStore;

  constructor(store: StateStore) {
    this.#store = store;
    for (const { name, message } of store.bad) this.reasons.set(name, message);
  }

  get counts(): { overlays: number; vnics: number } {
    const vnics = [...this.overlays.values()].reduce((sum, overlay) => sum + overlay.vnics.size, 0);
    return { overlays: this.overlays.size, vnics };
  }

  /** For the service manager: how much is up, and what is not. */
  get summary(): string {
    const { overlays, vnics } = this.counts;
    const reasons = [...this.reasons].map(([name, reason]) => `${name}: ${reason}`);
    const rest =
      reasons.length === 0 ? '' : `; OFFLINE: ${printable(reasons.join('; '), SUMMARY_CHARACTERS)}`;
    return `${overlays} overlays and ${vnics} VNICs are up${rest}`;
  }

  /** Of all overlays, running or not, in the order of their creation. */
  names(): string[] {
    const names = new Set([...this.#store.overlays.keys(), ...this.overlays.keys()]);
    return [...names].sort((a, b) => this.idOf(a) - this.idOf(b));
  }

  /** `varpd/id`, 0 when there is no such overlay. */
  idOf(name: string): number {
    return this.#store.overlays.get(name)?.id ?? this.overlays.get(name)?.id ?? 0;
  }

  /** One that is being started, too: its threads may have something to say. */
  withId(id: number): Overlay | undefined {
    for (const overlays of [this.overlays, this.starting])
      for (const overlay of overlays.values()) if (overlay.id === id) return overlay;
    return undefined;
  }

  overlayOfVnic(name: string): Overlay | undefined {
    return [...this.overlays.values()].find((overlay) => overlay.vnics.has(name));
  }

  storedOverlayOfVnic(name: string): StoredOverlay | undefined {
    return [...this.#store.overlays.values()].find(({ vnics }) => vnics.some((vnic) => vnic.name === name));
  }

  /** Of a VNIC, running or not: the name of its overlay. Its own name when there is none of that name. */
  overlayNameOf(vnic: string): string {
    return this.overlayOfVnic(vnic)?.name ?? this.storedOverlayOfVnic(vnic)?.name ?? vnic;
  }

  storedVnics(overlay: string): readonly StoredVnic[] {
    return this.#store.overlays.get(overlay)?.vnics ?? [];
  }

  /** Whether an overlay or VNIC of this name runs. */
  runs(name: string): boolean {
    return this.overlays.has(name) || this.overlayOfVnic(name) !== undefined;
  }

  /** Whether one of this name is on disk. */
  isStored(name: string): boolean {
    return this.#store.overlays.has(name) || this.storedOverlayOfVnic(name) !== undefined;
  }

  /** Throws an OverlayError when no overlay of this name runs. */
  need(name: string): Overlay {
    const overlay = this.overlays.get(name);
    if (overlay === undefined) throw new OverlayError('NOT_FOUND', this.#whyMissing(name, 'an overlay'));
    return overlay;
  }

  list({ names }: Methods['overlay.list']['params']): Methods['overlay.list']['result'] {
    const overlays: OverlayInfo[] = [];
    const missing: Failure[] = [];
    for (const name of names ?? this.overlays.keys()) {
      const overlay = this.overlays.get(name);
      if (overlay !== undefined) overlays.push(overlay.info());
      else missing.push({ name, message: this.#whyMissing(name, 'an overlay') });
    }
    return { overlays, missing };
  }

  /** Throws an OverlayError when `over` does not run. */
  listVnics({ names, over }: Methods['vnic.list']['params']): Methods['vnic.list']['result'] {
    const overlays = over === undefined ? [...this.overlays.values()] : [this.need(over)];
    const vnics: VnicInfo[] = overlays.flatMap((overlay) =>
      [...overlay.vnics.values()]
        .filter((vnic) => names === undefined || names.includes(vnic.name))
        .map((vnic) => overlay.vnicInfo(vnic)),
    );
    const found = new Set(vnics.map((vnic) => vnic.name));
    const missing = (names ?? [])
      .filter((name) => !found.has(name))
      .map((name) => ({
        name,
        message: this.#whyMissing(name, over === undefined ? 'a VNIC' : `a VNIC over ${over}`),
      }));
    return { vnics, missing };
  }

  #whyMissing(name: string, wanted: string): string {
    const shown = printable(name);
    if (this.runs(name)) return `${shown} is not ${wanted}`;
    const reason = this.reasons.get(name);
    if (reason !== undefined) return `${shown} does not run: ${reason}`;
    return this.isStored(name) ? `${shown} does not run` : STATUS_WORDS.NOT_FOUND;
  }
}
