/** A new VNIC of a running overlay, checked and added. */
import type { Methods } from '../../../control/methods.js';
import { OverlayError } from '../../../model/errors.js';
import { readLinkValues } from '../../../model/link-properties.js';
import { foundExpected } from '../../../model/properties.js';
import { formatMac } from '../../../wire/mac.js';
import type { StoredVnic } from '../../state/state-schema.js';
import type { UndoStack } from '../../../model/undo.js';
import type { NewNames } from './new-names.js';
import { needMac } from '../overlay-errors.js';
import type { RunningOverlay } from '../running-overlay.js';
import { storedProperties } from '../vnic-link-properties.js';

/** 802.1Q: 4095 is reserved, 0 means no VLAN. */
export const MAX_VID = 4094;

export type NewVnic = Omit<Methods['vnic.create']['params'], 'over'>;

/** Throws an OverlayError. Returns the VNIC as it is to be stored. */
export function addVnic(
  overlay: RunningOverlay,
  { name, mac, vid = 0, properties, temporary, attachment }: NewVnic,
  names: NewNames,
  undo: UndoStack,
): StoredVnic {
  if (vid < 0 || vid > MAX_VID)
    throw new OverlayError('INVALID', `vid: ${foundExpected(String(vid), `0 to ${MAX_VID}`)}`);
  if (temporary && attachment !== undefined)
    throw new OverlayError('INVALID', `${name}: a VNIC with an attachment is not temporary`);
  const address = mac === undefined ? names.freeMac(overlay) : needMac(mac);
  names.checkMac(overlay, address);
  const values = readLinkValues(properties ?? []);
  const rest: Pick<StoredVnic, 'macType' | 'vid' | 'attachment'> = {
    macType: mac === undefined ? 'random' : 'fixed',
    vid,
    ...(attachment !== undefined && { attachment }),
  };
  overlay.addVnic({ name, mac: address, ...rest, temporary, properties: values, leases: [] });
  undo.push(() => overlay.removeVnic(name));
  return { name, mac: formatMac(address), ...rest, ...storedProperties(values) };
}
