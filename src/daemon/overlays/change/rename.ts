/**
 * Renames an overlay or a VNIC: its interface first, and then its state file, so that a crash leaves the old name stored
 * or the new one. In between the interface outlives varpd and is recorded under both names: the next start gives it the
 * name that is stored (PersistentLinks.settleRenames). VNICs and flows of an overlay go on. Its plugin gets a new instance,
 * since an instance is told the name once; it starts beside the one in use, and takes its place when the name is stored.
 */
import { OverlayError } from '../../../model/errors.js';
import { allOrNothing, type UndoStack } from '../../../model/undo.js';
import { undoFailed } from '../../undo.js';
import type { BringUp } from '../bring-up.js';
import type { DeclaredContext } from './declared.js';

interface RenameContext extends Pick<DeclaredContext, 'directory' | 'store' | 'changes' | 'names' | 'log'> {
  readonly bringUp: Pick<BringUp, 'renamed'>;
}

/** Rejects with an OverlayError; nothing has changed then. */
export function renameLink(context: RenameContext, from: string, to: string): Promise<void> {
  const { directory, changes, names, log } = context;
  const rename = directory.idOf(from) === 0 ? renameVnic : renameOverlay;
  return changes.run(directory.overlayNameOf(from), () =>
    names.reserve(to, () => allOrNothing((undo) => rename(context, from, to, undo), undoFailed(log))),
  );
}

async function renameOverlay(
  { directory, store, changes, bringUp }: RenameContext,
  from: string,
  to: string,
  undo: UndoStack,
): Promise<void> {
  const commit = await directory.need(from).rename(to, undo);
  await store.rename(from, to);
  directory.rename(from, to);
  changes.follow(to, from);
  bringUp.renamed(from, to);
  await commit();
}

async function renameVnic(
  { directory, store }: RenameContext,
  from: string,
  to: string,
  undo: UndoStack,
): Promise<void> {
  const overlay = directory.overlayOfVnic(from);
  const stored = directory.storedOverlayOfVnic(from);
  if (overlay === undefined && stored === undefined) throw directory.notFound(from, 'vnic');
  if (overlay === undefined)
    throw new OverlayError(
      'AGAIN',
      `${from} is OFFLINE: ${directory.reasons.get(from) ?? 'it does not run'}`,
    );
  const commit = overlay.renameVnic(from, to);
  undo.push(() => {
    overlay.renameVnic(to, from)();
  });
  if (stored !== undefined) {
    const vnics = stored.vnics.map((vnic) => (vnic.name === from ? { ...vnic, name: to } : vnic));
    await store.save({ ...stored, vnics });
  }
  commit();
}
