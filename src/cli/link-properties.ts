/**
 * Link properties as they are typed: `protection=mac-nospoof,ip-nospoof,allowed-ips=10.55.55.2`. A comma
 * separates both values and properties. A piece with `=` in it begins a property; a piece without `=` is one
 * more value of the property before it.
 */
import { ValueError } from './command.js';
import { refuseLongList } from './values.js';

/** The properties of all -p options, in order. */
export function parseLinkProperties(lists: readonly string[]): [name: string, values: string[]][] {
  const properties: [string, string[]][] = [];
  for (const list of lists) {
    refuseLongList(list);
    let values: string[] | undefined;
    for (const piece of list.split(',')) {
      const equals = piece.indexOf('=');
      if (equals > 0 && equals < piece.length - 1) {
        values = [piece.slice(equals + 1)];
        properties.push([piece.slice(0, equals), values]);
      } else if (equals === -1 && piece !== '' && values !== undefined) {
        values.push(piece);
      } else {
        throw new ValueError('invalid link property', [`expected prop=value[,value...], got: ${list}`]);
      }
    }
  }
  return properties;
}

/** The names of all -p options, which have commas between them. */
export function parseNames(lists: readonly string[]): string[] {
  return lists.flatMap((list) => list.split(',')).filter((name) => name !== '');
}
