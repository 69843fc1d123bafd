/**
 * The VNIC of an attachment. varpd keeps the attachment with the VNIC, in one step. So there is no other record of it that
 * a crash could leave behind: whatever a call has begun, DEL and GC find it in varpd.
 */
import { createHash } from 'node:crypto';
import type { Call } from '../control/client.js';
import { readPages } from '../control/pages.js';
import type { VnicInfo } from '../control/messages.js';
import type { Attachment } from './request.js';

const KIND = 'cni:';
const NAME_LETTERS = 11;

/** Returns the text that varpd keeps. None of its parts has a slash. */
export function attachmentText(network: string, { containerId, ifname }: Attachment): string {
  return `${KIND}${network}/${containerId}/${ifname}`;
}

/**
 * The name of the VNIC, the same for each call about an attachment: 2^51 names for the few thousand of a host. The rules of
 * dladm want a number at the end.
 */
export function vnicName(attachment: string): string {
  const digest = createHash('sha256').update(attachment).digest();
  const letters = [...digest.subarray(0, NAME_LETTERS)].map((byte) => String.fromCharCode(97 + (byte % 26)));
  return `cni${letters.join('')}0`;
}

/** Returns the VNIC of an attachment, if varpd has it. */
export async function findVnic(call: Call, attachment: string): Promise<VnicInfo | undefined> {
  const { vnics } = await call('vnic.list', { names: [vnicName(attachment)] });
  return vnics.find((vnic) => vnic.attachment === attachment);
}

/** Returns the attachments to a network that varpd has VNICs for. */
export async function attachmentsOf(call: Call, network: string): Promise<Attachment[]> {
  const prefix = `${KIND}${network}/`;
  const pages = await readPages(call, 'vnic.list', {});
  return pages
    .flatMap(({ vnics }) => vnics)
    .flatMap(({ attachment }) => {
      if (attachment?.startsWith(prefix) !== true) return [];
      const [containerId, ifname] = attachment.slice(prefix.length).split('/');
      return [{ containerId, ifname }];
    });
}
