/** Suggests the known name that an unknown one was probably meant to be. */

/** At most so many letters may be wrong, missing or too many. */
const MAX_SLIPS = 2;
/** A longer name is not a misspelled one. */
const MAX_CHARACTERS = 63;

/** Returns `no such property: did you mean vxlan/listen_ip?`, or a list of all names. */
export function unknownProperty(name: string, known: readonly string[]): string {
  const meant = name.length > MAX_CHARACTERS ? undefined : nearest(name, known);
  return meant === undefined
    ? `no such property, expected one of ${known.join(', ')}`
    : `no such property: did you mean ${meant}?`;
}

/** Returns the known name nearest to `name`. `listen_ip` and `vxlan/listen_ip` are near `geneve/listen_ip`:
 * the part before the slash may be missing, or be that of another encapsulation or plugin. */
function nearest(name: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((one) => ({
      one,
      slips: Math.min(distance(name, one), distance(ownPart(name), ownPart(one))),
    }))
    .filter(({ slips }) => slips <= Math.min(MAX_SLIPS, ownPart(name).length / 2))
    .sort((a, b) => a.slips - b.slips);
  return ranked.at(0)?.one;
}

const ownPart = (name: string): string => name.slice(name.indexOf('/') + 1);

/** Levenshtein distance: the insertions, deletions and replacements from one text to the other. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++)
      next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + Number(from[i - 1] !== to[j - 1])));
    row = next;
  }
  return row[to.length];
}
