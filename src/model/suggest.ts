/**
 * Suggests the known name that an unknown one was probably meant to be. The packages for this measure a distance in as
 * many lines, and none knows the part of a property before its slash.
 */

/** At most so many letters may be wrong, missing, too many or exchanged. */
const MAX_SLIPS = 2;
/** A longer name is not a misspelled one. */
const MAX_CHARACTERS = 63;

/** Returns `no such property: did you mean vxlan/listen_ip?`, or a list of all names. */
export function unknownProperty(name: string, known: readonly string[]): string {
  const hint = didYouMean(name, known);
  return hint === undefined
    ? `no such property, expected one of ${known.join(', ')}`
    : `no such property: ${hint}`;
}

/** Returns `did you mean overlay0?`; undefined when no known name is near. */
export function didYouMean(name: string, known: readonly string[]): string | undefined {
  const meant = name.length > MAX_CHARACTERS ? undefined : nearest(name, known);
  return meant === undefined ? undefined : `did you mean ${meant}?`;
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

/**
 * Damerau-Levenshtein distance, in which no letter is changed twice: the insertions, deletions, replacements and
 * exchanges of neighbours from one text to the other. A letter in the other case is the same one.
 */
function distance(from: string, to: string): number {
  const [a, b] = [from.toLowerCase(), to.toLowerCase()];
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      const isExchange = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next.push(
        Math.min(
          next[j - 1] + 1,
          row[j] + 1,
          row[j - 1] + Number(!isSame),
          isExchange ? before[j - 2] + 1 : Infinity,
        ),
      );
    }
    before = row;
    row = next;
  }
  return row[b.length];
}
