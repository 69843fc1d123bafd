/**
 * Changes to the properties of overlays, all or nothing. An overlay that runs takes the values first (live-change.ts), and
 * the disk is written last, so that a crash leaves the old state or the new. An overlay that is OFFLINE has its stored
 * values changed, and is tried again at once: a wrong value may be why it does not run. The changes share the registry's
 * queue.
 */
import type { Methods } from '../../../control/methods.js';
import { inBackground } from '../../../model/background.js';
import {
  checkChanges,
  checkResets,
  type GivenProperty,
  type OwnedSpec,
  PropertySet,
  resettable,
} from '../../../model/properties.js';
import { isTemporary } from '../../../model/sentences.js';
import type { Log } from '../../log.js';
import type { Plugins } from '../../plugins/plugin-catalog.js';
import type { StateStore } from '../../state/persistence.js';
import type { Snapshot } from '../../state/snapshot.js';
import type { StoredOverlay } from '../../state/state-schema.js';
import { allOrNothing, type UndoStack } from '../../../model/undo.js';
import { type KeyedQueue, undoFailed } from '../../undo.js';
import type { OverlayDirectory } from '../directory.js';
import { specsOf } from '../overlay-properties.js';
import type { RunningOverlay } from '../running-overlay.js';
import type { Network } from './overlay-values.js';

type Params<M extends keyof Methods> = Methods[M]['params'];
type Edit = (values: readonly GivenProperty[]) => GivenProperty[];

/** A change to an overlay's own values, whichever these are. */
interface Edited {
  /** The names of the properties that change. */
  readonly names: readonly string[];
  readonly edit: Edit;
  /** Another `vnetid`. */
  readonly vnetid?: number;
}

export interface PropertyContext {
  readonly directory: OverlayDirectory;
  readonly store: StateStore;
  readonly changes: KeyedQueue;
  readonly plugins: Plugins;
  readonly snapshot: Pick<Snapshot, 'forget'>;
  readonly log: Log;
  /** Tries to bring an overlay up. */
  readonly bringUp: (name: string) => Promise<unknown>;
}

export class OverlayProperties {
  readonly #context: PropertyContext;

  constructor(context: PropertyContext) {
    this.#context = context;
  }

  /** Rejects with an OverlayError that has a line for each invalid property; nothing has changed then. */
  set({ name, temporary, properties }: Params<'overlayprop.set'>): Promise<void> {
    return this.#change(name, temporary, (specs) => {
      checkChanges(specs, properties);
      const given = new Map(properties);
      const names = [...given.keys()];
      const vnetid = given.get('vnetid');
      given.delete('vnetid');
      const edit: Edit = (values) => [
        ...values.map(([one, text]): GivenProperty => [one, given.get(one) ?? text]),
        ...[...given].filter(([one]) => !values.some(([other]) => other === one)),
      ];
      return { names, edit, ...(vnetid !== undefined && { vnetid: Number(vnetid) }) };
    });
  }

  reset({ name, temporary, properties }: Params<'overlayprop.reset'>): Promise<void> {
    return this.#change(name, temporary, (specs) => {
      checkResets(specs, properties ?? []);
      const names = properties ?? resettable(specs);
      return { names, edit: (values) => values.filter(([one]) => !names.includes(one)) };
    });
  }

  /** `plan`: checks the names and values of the request, and says how to edit the values of an overlay. */
  #change(name: string, temporary: boolean, plan: (specs: readonly OwnedSpec[]) => Edited): Promise<void> {
    const { directory, store, changes, plugins, log } = this.#context;
    return changes.run(name, async () => {
      const running = directory.overlays.get(name);
      const stored = store.overlays.get(name);
      const overlay = running?.plan ?? stored;
      if (overlay === undefined) throw directory.notFound(name, 'overlay');
      if (running === undefined && temporary) directory.need(name);
      if (!temporary && stored === undefined) throw isTemporary(name, 'set on');
      await plugins.find(overlay.search);
      const plugin = plugins.get(overlay.search);
      const specs = specsOf(overlay, plugin, [...new Set([...plugins.keys(), overlay.search])]);
      const edited = plan(specs);
      const next = temporary || stored === undefined ? undefined : editStored(stored, specs, edited);
      await allOrNothing(async (undo) => {
        const commit = await this.#apply(running, edited, undo);
        if (next !== undefined && next.vnetid !== stored?.vnetid) await this.#context.snapshot.forget(name);
        if (next !== undefined) await store.save(next);
        await commit();
      }, undoFailed(log));
      if (running === undefined) inBackground(`bringing up ${name}`, this.#context.bringUp(name));
    });
  }

  #apply(
    running: RunningOverlay | undefined,
    { names, edit, vnetid = running?.plan.vnetid }: Edited,
    undo: UndoStack,
  ): Promise<() => Promise<void>> {
    if (running === undefined || vnetid === undefined) return Promise.resolve(() => Promise.resolve());
    const refuseTwin = (network: Network): void => {
      this.#context.directory.refuseTwin(network, running.name);
    };
    const given = edit(running.properties.given());
    return running.change({ vnetid, given, names, refuseTwin }).apply(undo);
  }
}

/** The stored overlay with the change, in canonical spelling. Throws an OverlayError if its values are not valid together. */
function editStored(
  stored: StoredOverlay,
  specs: readonly OwnedSpec[],
  { edit, vnetid = stored.vnetid }: Edited,
): StoredOverlay {
  const { encap, search, id } = stored;
  const fixed = { vnetid, encap, search, 'varpd/id': id };
  const before = stored.properties.filter(([name]) => !(name in fixed));
  return { ...stored, vnetid, properties: PropertySet.from(specs, edit(before), fixed).given() };
}
