/** Renames a VNIC: its interface first, and then its state file, so that a crash leaves the old name stored. */
import { OverlayError } from '../../../model/errors.js';
import { allOrNothing } from '../../../model/undo.js';
import { undoFailed } from '../../undo.js';
import type { DeclaredContext } from './declared.js';

type RenameContext = Pick<DeclaredContext, 'directory' | 'store' | 'changes' | 'names' | 'log'>;

/** Rejects with an OverlayError; nothing has changed then. */
export async function renameVnic(
  { directory, store, changes, names, log }: RenameContext,
  from: string,
  to: string,
): Promise<void> {
  if (directory.idOf(from) !== 0)
    throw new OverlayError(
      'UNSUPPORTED',
      `${from} is an overlay, and only VNICs are renamed: its plugin and its peers know it by its name. Declare it under ` +
        `the new name: 'dladm export ${from}', delete it, and 'dladm apply'`,
    );
  await changes.run(directory.overlayNameOf(from), () =>
    names.reserve(to, () =>
      allOrNothing(async (undo) => {
        const overlay = directory.overlayOfVnic(from);
        const stored = directory.storedOverlayOfVnic(from);
        if (overlay === undefined && stored === undefined) throw directory.notFound(from, 'vnic');
        if (overlay === undefined)
          throw new OverlayError(
            'AGAIN',
            `${from} is OFFLINE: ${directory.reasons.get(from) ?? 'it does not run'}`,
          );
        overlay.renameVnic(from, to);
        undo.push(() => {
          overlay.renameVnic(to, from);
        });
        if (stored === undefined) return;
        const vnics = stored.vnics.map((vnic) => (vnic.name === from ? { ...vnic, name: to } : vnic));
        await store.save({ ...stored, vnics });
      }, undoFailed(log)),
    ),
  );
}
