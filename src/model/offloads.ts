/**
 * Offloads of an overlay, and the property that says which it may use. The words are the same in the property, in
 * show-overlay and in metrics.
 *
 * checksum  the stack leaves checksums to varpd
 * tso, uso  the stack leaves the cutting of TCP, or of UDP, to varpd
 * train     many frames to one destination are sent as one message, which the kernel cuts
 * tunnel    superframes of TCP leave whole, as tunnel frames, where the link of the route takes these whole
 * coalesce  many frames of a flow arrive as one message, and go to the stack as one superframe
 * nested    TCP and UDP inside a UDP tunnel of the stack are cut, and put together, as other TCP and UDP
 */
import { didYouMean } from './suggest.js';

export const OFFLOADS = ['checksum', 'tso', 'uso', 'train', 'tunnel', 'coalesce', 'nested'] as const;
export type Offload = (typeof OFFLOADS)[number];

/** Values that stand for the usual offloads, and for none. */
const USUAL = 'auto';
const NONE = 'off';
export const OFFLOAD_WORDS = [USUAL, NONE, ...OFFLOADS] as const;

/** Those that an operator has to ask for: tunnel frames go round the firewall of the host. */
const ASKED_FOR: readonly Offload[] = ['tunnel'];
export const USUAL_OFFLOADS = OFFLOADS.filter((offload) => !ASKED_FOR.includes(offload));

/** Offload -> those of which it needs one. Linux 6.18, drivers/net/tun.c, set_offload: segmentation needs checksums, and
 * a tunnel needs segmentation. */
const NEEDS: Readonly<Partial<Record<Offload, readonly Offload[]>>> = {
  tso: ['checksum'],
  uso: ['checksum'],
  tunnel: ['tso'],
  nested: ['tso', 'uso'],
};

const LIST = `${USUAL}, ${NONE}, or a list out of ${OFFLOADS.join(', ')}`;

/** Reads a value of the property. Its canonical spelling has the offloads in the order of `OFFLOADS`. */
export function readOffloads(text: string): { readonly value: string } | { readonly expected: string } {
  if (text === USUAL || text === NONE) return { value: text };
  const words = text.split(',');
  const expected = refuseWords(words) ?? refuseLacks(words);
  return expected === undefined
    ? { value: OFFLOADS.filter((word) => words.includes(word)).join() }
    : { expected };
}

/** The offloads of a value that `readOffloads` has accepted. */
export function offloadsOf(value: string): readonly Offload[] {
  if (value === USUAL) return USUAL_OFFLOADS;
  const words = value.split(',');
  return OFFLOADS.filter((word) => words.includes(word));
}

function refuseWords(words: readonly string[]): string | undefined {
  if (words.includes('')) return `${LIST}: an offload is missing`;
  const unknown = words.find((word) => !OFFLOADS.includes(word as Offload));
  if (unknown === USUAL || unknown === NONE) return `${LIST}: ${unknown} stands alone`;
  if (unknown !== undefined) {
    const hint = didYouMean(unknown, words.length === 1 ? OFFLOAD_WORDS : OFFLOADS);
    return `${LIST}: there is no '${unknown}'${hint === undefined ? '' : `, ${hint}`}`;
  }
  const twice = words.find((word, index) => words.indexOf(word) < index);
  return twice === undefined ? undefined : `each offload once: '${twice}' is given twice`;
}

function refuseLacks(words: readonly string[]): string | undefined {
  for (const [offload, needed] of Object.entries(NEEDS))
    if (words.includes(offload) && !needed.some((one) => words.includes(one)))
      return `${needed.join(' or ')} too: ${offload} needs ${needed.length === 1 ? 'it' : 'one of them'}`;
  return undefined;
}
