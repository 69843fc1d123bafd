/**
 * Link properties as they are typed: `protection=mac-nospoof,ip-nospoof,allowed-ips=10.55.55.2`. A comma
 * separates both values and properties. A piece with `=` in it begins a property; a piece without `=` is one
 * more value of the property before it. `\,` is a comma inside a value, and `\\` a backslash.
 */
import { ValueError } from './command.js';
import { splitList } from './values.js';

/** The properties of all -p options, in order. */
export function parseLinkProperties(lists: readonly string[]): [name: string, values: string[]][] {
  const properties: [string, string[]][] = [];
  for (const list of lists) {
    let values: string[] | undefined;
    for (const piece of splitList(list)) {
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
  return lists.flatMap(splitList).filter((name) => name !== '');
}
