/**
 * Changes to the link properties of VNICs, and to their DHCP leases. A change of properties is written to the
 * disk first, and then put in force, so that a crash in between loses no rule. A lease is in force first, and
 * saved soon after. The changes share the registry's queue.
 */
import type { LinkPropertyRow } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import { inBackground } from '../../model/background.js';
import { isTemporary } from '../../model/sentences.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import {
  checkLinkNames,
  LINK_PROPERTIES,
  LINK_PROPERTY_NAMES,
  type LinkValues,
  readLinkValues,
  valuesOf,
} from '../../model/link-properties.js';
import { isNot } from '../../model/properties.js';
import type { Log } from '../log.js';
import type { StateStore } from '../state/persistence.js';
import type { StoredOverlay, StoredVnic } from '../state/state-schema.js';
import type { KeyedQueue } from '../undo.js';
import type { OverlayDirectory } from './directory.js';
import type { VnicPlan } from './overlay-plan.js';
import { pageOf } from './pages.js';
import { linkRows } from './vnic-protection.js';

type Params<M extends keyof Methods> = Methods[M]['params'];

/** Leases are saved within this time, so that a thousand guests that renew cause one write a second. */
const SAVE_DELAY_MS = 1000;

/** The part of a state file with these values; empty if none is set. */
export function storedProperties(values: LinkValues): Pick<StoredVnic, 'properties'> {
  const properties = [...values].map(([name, list]): [string, string[]] => [name, [...list]]);
  return properties.length === 0 ? {} : { properties };
}

interface VnicSettings extends Pick<VnicPlan, 'vid' | 'temporary' | 'attachment'> {
  readonly over: string;
  readonly mac: string;
  readonly values: LinkValues;
}

/**
 * Lines about what a VNIC has otherwise than it was asked for; none if it has nothing otherwise. Without a MAC any one
 * was asked for.
 */
export function vnicDifferences(
  there: VnicSettings,
  asked: Omit<VnicSettings, 'mac'> & { readonly mac: string | undefined },
): string[] {
  const textsOf = ({
    over,
    vid,
    temporary,
    attachment = '--',
    values,
  }: Omit<VnicSettings, 'mac'>): [string, string][] => [
    ['over', over],
    ['vid', String(vid)],
    ['it', temporary ? 'temporary' : 'persistent'],
    ['attachment', attachment],
    // The order of a list has no meaning.
    ...LINK_PROPERTY_NAMES.map((name): [string, string] => [name, [...valuesOf(values, name)].sort().join()]),
  ];
  const [found, wanted] = [textsOf(there), textsOf(asked)];
  if (asked.mac !== undefined) {
    found.push(['mac', there.mac]);
    wanted.push(['mac', asked.mac]);
  }
  return found.flatMap(([name, text], index) =>
    text === wanted[index][1] ? [] : [isNot(name, text, wanted[index][1])],
  );
}

export class LinkProperties {
  readonly #directory: OverlayDirectory;
  readonly #store: StateStore;
  readonly #changes: KeyedQueue;
  readonly #log: Log;
  /** Overlays with leases that differ from those on the disk. */
  readonly #unsaved = new Set<number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(directory: OverlayDirectory, store: StateStore, changes: KeyedQueue, log: Log) {
    this.#directory = directory;
    this.#store = store;
    this.#changes = changes;
    this.#log = log;
  }

  /** Rejects with an OverlayError that has a line for each invalid property; nothing has changed then. */
  async set({ name, temporary, properties }: Params<'linkprop.set'>): Promise<void> {
    this.#refuseOverlay(name);
    const given = readLinkValues(properties);
    await this.#change(name, temporary, (values) => new Map([...values, ...given]));
  }

  async reset({ name, temporary, properties }: Params<'linkprop.reset'>): Promise<void> {
    this.#refuseOverlay(name);
    checkLinkNames(properties ?? []);
    await this.#change(
      name,
      temporary,
      (values) => new Map([...values].filter(([one]) => properties?.includes(one) === false)),
    );
  }

  list({
    names,
    properties,
    persistent,
    after,
  }: Params<'linkprop.list'>): Methods['linkprop.list']['result'] {
    checkLinkNames(properties ?? []);
    const { found, missing } = this.#directory.findVnics(names);
    const wanted = properties ?? LINK_PROPERTIES.map(({ name }) => name);
    const pick = (rows: readonly LinkPropertyRow[]): LinkPropertyRow[] =>
      wanted.flatMap((name) => rows.filter(({ property }) => property === name));
    if (!persistent) {
      const page = pageOf([...found.keys()], after, (name) =>
        pick(this.#running(name)?.protection.rows(name) ?? this.#storedRows(name)),
      );
      return { ...page, missing: after === undefined ? missing : [] };
    }
    const stored = [...this.#store.overlays.values()].flatMap((overlay) => overlay.vnics);
    const shown = stored.map(({ name }) => name).filter((name) => found.has(name));
    const page = pageOf(shown, after, (name) => pick(this.#storedRows(name)));
    const isShown = new Set(shown);
    const reasons = new Map(missing.map((failure) => [failure.name, failure]));
    const absent = (names ?? []).filter((name) => after === undefined && !isShown.has(name));
    return {
      ...page,
      missing: absent.map((name) => reasons.get(name) ?? { name, message: `${name} is temporary` }),
    };
  }

  /** Called when leases of VNICs over this overlay differ from those on the disk. */
  leasesChanged(overlay: number): void {
    this.#unsaved.add(overlay);
    this.#timer ??= setTimeout(() => {
      inBackground('saving leases', this.saveLeases());
    }, SAVE_DELAY_MS).unref();
  }

  /** Never rejects: a lease that was not saved is lost at the next start, and nothing else is. */
  async saveLeases(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const overlays = [...this.#unsaved];
    this.#unsaved.clear();
    for (const id of overlays) {
      const name = this.#directory.withId(id)?.name;
      if (name === undefined) continue;
      try {
        await this.#changes.run(name, () => this.#saveLeasesOf(id));
      } catch (error) {
        this.#log.warn(`leases ${name}`, `leases over ${name}: ${asOverlayError(error).message}`);
      }
    }
  }

  async #saveLeasesOf(id: number): Promise<void> {
    const running = this.#directory.withId(id);
    if (running === undefined) return;
    const stored = this.#store.overlays.get(running.name);
    if (stored === undefined) return;
    const vnics = stored.vnics.map(({ leases: before, ...vnic }) => {
      const leases = running.vnics.get(vnic.name)?.protection.leases() ?? before ?? [];
      return leases.length === 0 ? vnic : { ...vnic, leases };
    });
    await this.#store.save({ ...stored, vnics });
  }

  #change(name: string, temporary: boolean, edit: (values: LinkValues) => LinkValues): Promise<void> {
    return this.#changes.run(this.#directory.overlayNameOf(name), async () => {
      const vnic = this.#running(name);
      const stored = this.#directory.storedOverlayOfVnic(name);
      if (vnic === undefined && (temporary || stored === undefined))
        throw this.#directory.notFound(name, 'vnic');
      if (!temporary && stored === undefined) throw isTemporary(name, 'set on');
      if (!temporary && stored !== undefined) await this.#store.save(edited(stored, name, edit));
      vnic?.protection.setValues(edit(vnic.protection.values));
      this.#directory.overlayOfVnic(name)?.protect(name);
    });
  }

  /** Refuses the name of an overlay: an operator may try to set `<encap>/listen_ip` as a link property. */
  #refuseOverlay(name: string): void {
    if (this.#directory.idOf(name) === 0) return;
    throw new OverlayError(
      'UNSUPPORTED',
      `${name} is an overlay; link properties are those of VNICs: use set-overlayprop or reset-overlayprop`,
    );
  }

  /** Rows as the next start will find them; no value is in force. */
  #storedRows(name: string): LinkPropertyRow[] {
    const stored = this.#directory.storedOverlayOfVnic(name)?.vnics.find((vnic) => vnic.name === name);
    return stored === undefined ? [] : linkRows(name, new Map(stored.properties), () => []);
  }

  #running(name: string) {
    return this.#directory.overlayOfVnic(name)?.vnics.get(name);
  }
}

function edited(
  stored: StoredOverlay,
  name: string,
  edit: (values: LinkValues) => LinkValues,
): StoredOverlay {
  const vnics = stored.vnics.map(({ properties = [], ...vnic }) => {
    const values = new Map(properties);
    return { ...vnic, ...storedProperties(vnic.name === name ? edit(values) : values) };
  });
  return { ...stored, vnics };
}
