/** Properties of overlays as they are typed: `offload=checksum,tso,mtu=1400`. */
import { specsByEncapsulation } from '../model/overlay-specs.js';
import { parseProperty, splitList } from './values.js';

/** Properties of overlays that take a list. */
const LISTS: ReadonlySet<string> = new Set(
  [...specsByEncapsulation().values()]
    .flat()
    .flatMap((spec) => (spec.readList === undefined ? [] : [spec.name])),
);

/**
 * The pieces of all -p options, in order, each one property. A piece without `=` behind a list is one more word of that
 * list. Throws a ValueError.
 */
export function splitOverlayProperties(lists: readonly string[]): string[] {
  return lists.flatMap((list) => {
    const properties: string[] = [];
    for (const piece of list === '' ? [] : splitList(list)) {
      const last = properties.at(-1);
      const isWord = last !== undefined && !piece.includes('=') && LISTS.has(last.replace(/=.*/s, ''));
      if (isWord) properties[properties.length - 1] = `${last},${piece}`;
      else properties.push(piece);
    }
    return properties;
  });
}

export const parseOverlayProperty = (piece: string): [name: string, value: string] =>
  parseProperty(piece, 'overlay property');
