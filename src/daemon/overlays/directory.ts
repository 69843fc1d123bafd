/**
 * The directory of overlays: those that run, those that are stored and do not (OFFLINE), and the information
 * about both.
 *
 * There are a few hundred overlays at most. So there is one map by name, and every other question looks at
 * all overlays: no second map has to be kept in step.
 */
import type {
  Failure,
  OverlayInfo,
  OverlayStatistics,
  PluginInfo,
  VnicInfo,
} from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import { asOverlayError, OverlayError, STATUS_WORDS } from '../../model/errors.js';
import { possible, printable } from '../../model/properties.js';
import { counted, inUse } from '../../model/sentences.js';
import { didYouMean } from '../../model/suggest.js';
import { formatEndpoint } from '../../wire/ip.js';
import type { Plugins } from '../plugins/plugin-catalog.js';
import type { StateStore } from '../state/persistence.js';
import type { StoredOverlay, StoredVnic } from '../state/state-schema.js';
import { offlineOverlay, offlineVnic, unreadableOverlay } from './offline.js';
import { type Network, networkText, NOTHING_EARLIER } from './change/overlay-values.js';
import type { RunningOverlay } from './running-overlay.js';
import { pageOf } from './pages.js';

export interface Count {
  readonly overlays: number;
  readonly vnics: number;
}
/** sd_notify(3) takes one line, and this has room for more in its datagram. */
const SUMMARY_CHARACTERS = 400;

export class OverlayDirectory {
  /** Running overlays by name, in the order of their start. */
  readonly overlays = new Map<string, RunningOverlay>();
  /** Overlays that are being started, by name. */
  readonly starting = new Map<string, RunningOverlay>();
  /** Reasons why stored overlays and VNICs do not run, by name. */
  readonly reasons = new Map<string, string>();
  readonly #store: Pick<StateStore, 'overlays' | 'bad'>;
  readonly #plugins: Plugins;

  constructor(store: Pick<StateStore, 'overlays' | 'bad'>, plugins: Plugins) {
    this.#store = store;
    this.#plugins = plugins;
    for (const { name, message } of store.bad) this.reasons.set(name, message);
  }

  /** Number of overlays and VNICs that run. */
  get counts(): Count {
    const vnics = [...this.overlays.values()].reduce((sum, overlay) => sum + overlay.vnics.size, 0);
    return { overlays: this.overlays.size, vnics };
  }

  /**
   * Number of stored overlays and VNICs that do not run; a state file that was set aside counts as an
   * overlay.
   */
  get offline(): Count {
    const vnics = [...this.#store.overlays.values()].flatMap((overlay) =>
      overlay.vnics.filter(({ name }) => this.overlays.get(overlay.name)?.vnics.has(name) !== true),
    );
    const stored = [...this.#store.overlays.keys()].filter((name) => !this.overlays.has(name));
    return { overlays: stored.length + this.#unreadable().length, vnics: vnics.length };
  }

  /** Overlays that are stored and do not run, state files that were set aside included, with the reason. */
  get offlineOverlays(): ReadonlyMap<string, string> {
    const stored = [...this.#store.overlays.keys()].filter((name) => !this.overlays.has(name));
    return new Map([
      ...stored.map((name) => [name, this.#reason(name, name)] as const),
      ...this.#unreadable().map((name) => [name, this.#unreadableReason(name)] as const),
    ]);
  }

  /** Summary for the service manager: how much is up, and what is not. */
  get summary(): string {
    const { overlays, vnics } = this.counts;
    const reasons = [...this.reasons].map(([name, reason]) => `${name}: ${reason}`);
    const rest =
      reasons.length === 0 ? '' : `; OFFLINE: ${printable(reasons.join('; '), SUMMARY_CHARACTERS)}`;
    return `${counted(overlays, 'overlay')} and ${counted(vnics, 'VNIC')} are up${rest}`;
  }

  /** Names of all overlays, running or not, in the order of their creation. */
  names(): string[] {
    const names = new Set([...this.#store.overlays.keys(), ...this.overlays.keys()]);
    return [...names].sort((a, b) => this.idOf(a) - this.idOf(b));
  }

  /** `varpd/id`, 0 when there is no such overlay. */
  idOf(name: string): number {
    return this.#store.overlays.get(name)?.id ?? this.overlays.get(name)?.id ?? 0;
  }

  /** The overlay with this id, also while it is being started. */
  withId(id: number): RunningOverlay | undefined {
    for (const overlays of [this.overlays, this.starting])
      for (const overlay of overlays.values()) if (overlay.id === id) return overlay;
    return undefined;
  }

  /** Throws an OverlayError if another overlay than this one has the network at this endpoint. */
  refuseTwin(network: Network, name: string, { networks, gone } = NOTHING_EARLIER): void {
    const present = [...this.overlays.values(), ...this.starting.values()].map(
      (one) => [one.name, one.networks.map(networkText)] as const,
    );
    const all = new Map<string, readonly string[]>([
      ...present,
      ...[...networks].map(([other, text]) => [other, [text]] as const),
    ]);
    const isTwin = ([other, texts]: readonly [string, readonly string[]]): boolean =>
      other !== name && !gone.has(other) && texts.includes(networkText(network));
    const twin = [...all].find(isTwin);
    if (twin !== undefined)
      throw inUse(`virtual network id ${network.vnetid}`, `${formatEndpoint(network.listen)} by ${twin[0]}`);
  }

  /** A running overlay has another name; it keeps its place. */
  rename(from: string, to: string): void {
    const all = [...this.overlays];
    this.overlays.clear();
    for (const [name, overlay] of all) this.overlays.set(name === from ? to : name, overlay);
    this.reasons.delete(to);
  }

  overlayOfVnic(name: string): RunningOverlay | undefined {
    return [...this.overlays.values()].find((overlay) => overlay.vnics.has(name));
  }

  storedOverlayOfVnic(name: string): StoredOverlay | undefined {
    return [...this.#store.overlays.values()].find(({ vnics }) => vnics.some((vnic) => vnic.name === name));
  }

  /** Name of the overlay of a VNIC, running or not. The VNIC's own name when there is no such VNIC. */
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

  /** Whether an overlay or VNIC of this name is on disk. */
  isStored(name: string): boolean {
    return this.#store.overlays.has(name) || this.storedOverlayOfVnic(name) !== undefined;
  }

  /** Throws an OverlayError when no overlay of this name runs. */
  need(name: string): RunningOverlay {
    const overlay = this.overlays.get(name);
    if (overlay !== undefined) return overlay;
    const offline = this.#offlineOverlay(name);
    if (offline === undefined) throw this.#missing(name, 'an overlay');
    const line = `${name} is OFFLINE: ${offline.health.details ?? ''}`;
    throw new OverlayError('AGAIN', line, [line]);
  }

  /**
   * The error when no overlay, or no VNIC, of this name can be deleted. It says what has the name instead,
   * and what to do.
   */
  notFound(name: string, wanted: 'overlay' | 'vnic'): OverlayError {
    const fail = (line: string): OverlayError => new OverlayError('NOT_FOUND', line, [line]);
    if (wanted === 'vnic' && this.idOf(name) !== 0) return fail(`${name} is an overlay: use delete-overlay`);
    if (wanted === 'overlay' && (this.runs(name) || this.isStored(name)))
      return fail(`${name} is a VNIC: use delete-vnic`);
    if (wanted === 'overlay' && this.#unreadable().includes(name)) return fail(this.#unreadableReason(name));
    // It may be there, and not in the way that was asked for: stored and not running.
    if (this.runs(name) || this.isStored(name)) return new OverlayError('NOT_FOUND', STATUS_WORDS.NOT_FOUND);
    return this.#missing(name, wanted === 'overlay' ? 'an overlay' : 'a VNIC');
  }

  /** The lookup plugins that are loaded, in the order of their names. */
  pluginList(): PluginInfo[] {
    return [...this.#plugins.keys()].sort().flatMap((key): PluginInfo[] => {
      const plugin = this.#plugins.get(key);
      if (plugin === undefined) return [];
      const properties = plugin.properties.map((spec) => ({
        property: spec.name,
        required: spec.required,
        default: spec.default ?? null,
        possible: possible({ ...spec, permission: 'rw' }),
        kind: spec.kind ?? null,
        about: spec.about ?? null,
      }));
      return [{ name: key, mode: plugin.mode, properties }];
    });
  }

  list({ names, after }: Methods['overlay.list']['params']): Methods['overlay.list']['result'] {
    const missing: Failure[] = [];
    const there = this.#allVnics;
    const { rows, next } = pageOf(
      names ?? [...this.names(), ...this.#unreadable()],
      after,
      (name): readonly OverlayInfo[] => {
        const info = this.overlays.get(name)?.info() ?? this.#offlineOverlay(name);
        if (info !== undefined) return [info];
        missing.push(failureOf(name, this.#missing(name, 'an overlay', there)));
        return [];
      },
    );
    return { overlays: rows, missing, next };
  }

  /** `of` reads one overlay. An overlay that is OFFLINE is missing, with the reason. */
  statistics(
    { names, after }: Methods['overlay.statistics']['params'],
    of: (overlay: RunningOverlay) => OverlayStatistics,
  ): Methods['overlay.statistics']['result'] {
    const missing: Failure[] = [];
    const { rows, next } = pageOf(names ?? this.names(), after, (name) => {
      const overlay = this.overlays.get(name);
      if (overlay !== undefined) return [of(overlay)];
      try {
        this.need(name);
      } catch (error) {
        missing.push(failureOf(name, asOverlayError(error)));
      }
      return [];
    });
    return { overlays: rows, missing, next };
  }

  /** Throws an OverlayError when there is no overlay `over`. Missing names are on the first page. */
  listVnics({ names, over, after }: Methods['vnic.list']['params']): Methods['vnic.list']['result'] {
    const { found, missing } = this.findVnics(names, over);
    const { rows, next } = pageOf([...found.keys()], after, (name) => this.#vnicInfo(name, found.get(name)!));
    return { vnics: rows, missing: after === undefined ? missing : [], next };
  }

  /**
   * VNICs, running or not: those named or all, over this overlay or any, as name -> overlay. Throws an
   * OverlayError when there is no overlay `over`.
   */
  findVnics(
    names: readonly string[] | undefined,
    over?: string,
  ): { found: ReadonlyMap<string, string>; missing: Failure[] } {
    if (over !== undefined && this.#offlineOverlay(over) === undefined) this.need(over);
    const all = this.#allVnics;
    const wanted = names && new Set(names);
    const found = new Map(
      [...all].filter(
        ([name, overlay]) => (over === undefined || overlay === over) && wanted?.has(name) !== false,
      ),
    );
    const what = over === undefined ? 'a VNIC' : `a VNIC over ${over}`;
    const missing = (names ?? [])
      .filter((name) => !found.has(name))
      .map((name) => failureOf(name, this.#missing(name, what, all)));
    return { found, missing };
  }

  /**
   * All VNICs, as name -> overlay. They follow the order in which overlays were created; temporary VNICs of
   * an overlay, which are not stored, come last.
   */
  get #allVnics(): ReadonlyMap<string, string> {
    const all = new Map<string, string>();
    for (const over of this.names()) {
      for (const { name } of this.storedVnics(over)) all.set(name, over);
      for (const name of this.overlays.get(over)?.vnics.keys() ?? []) all.set(name, over);
    }
    return all;
  }

  #vnicInfo(name: string, over: string): readonly VnicInfo[] {
    const overlay = this.overlays.get(over);
    const running = overlay?.vnics.get(name);
    if (overlay !== undefined && running !== undefined) return [overlay.vnicInfo(running)];
    const stored = this.storedVnics(over).find((vnic) => vnic.name === name);
    return stored === undefined ? [] : [offlineVnic(stored, over, this.#whyOffline(name, over))];
  }

  #offlineOverlay(name: string): OverlayInfo | undefined {
    if (this.overlays.has(name)) return undefined;
    const stored = this.#store.overlays.get(name);
    if (stored !== undefined) return offlineOverlay(stored, this.#plugins, this.#reason(name, name));
    return this.#unreadable().includes(name)
      ? unreadableOverlay(name, this.#unreadableReason(name))
      : undefined;
  }

  #whyOffline(vnic: string, over: string): string {
    return this.overlays.has(over)
      ? this.#reason(vnic, over)
      : `${over} is OFFLINE: ${this.#reason(over, over)}`;
  }

  #reason(name: string, overlay: string): string {
    return this.reasons.get(name) ?? `it is not running; 'dladm up-overlay ${overlay}' starts it`;
  }

  /**
   * Names of overlays with state files that were set aside, unless one of the same name has been created
   * since.
   */
  #unreadable(): string[] {
    const names = new Set(this.#store.bad.map(({ name }) => name));
    return [...names].filter((name) => !this.isStored(name) && !this.runs(name));
  }

  #unreadableReason(name: string): string {
    const reasons = this.#store.bad.filter((failure) => failure.name === name);
    return reasons.map(({ message }) => message).join('; ');
  }

  /** `wanted` begins with `an overlay` or `a VNIC`. */
  #missing(name: string, wanted: string, vnics = this.#allVnics): OverlayError {
    const isThere = this.overlays.has(name) || this.#store.overlays.has(name) || vnics.has(name);
    if (isThere) return new OverlayError('NOT_FOUND', `${printable(name)} is not ${wanted}`);
    const known = wanted === 'an overlay' ? this.names() : [...vnics.keys()];
    const hint = didYouMean(name, known);
    return new OverlayError('NOT_FOUND', STATUS_WORDS.NOT_FOUND, [], undefined, hint);
  }
}

/** An error as an entry of a list. */
export function failureOf(name: string, { code, message, hint }: OverlayError): Failure {
  return { name, message, reason: code, ...(hint !== null && { hint }) };
}
