/** Reads the output of ethtool(8). */

/** A feature of `ethtool -k`. */
export interface Feature {
  readonly isOn: boolean;
  /** The driver lets it be neither switched on nor off. */
  readonly isFixed: boolean;
}

export function parseFeatures(text: string): Map<string, Feature> {
  return new Map(
    [...text.matchAll(/^\s*([a-z0-9_-]+): (on|off)(.*)$/gm)].map(([, name, state, rest]) => [
      name,
      // `off [requested on]`: it would be on if another one were.
      { isOn: state === 'on', isFixed: rest.includes('[fixed]') },
    ]),
  );
}

export interface Module {
  /** `SFP`, `QSFP28` ... */
  readonly kind: string;
  /** `Laser rx power low alarm` ... that are on. */
  readonly alarms: readonly string[];
  readonly warnings: readonly string[];
  /** Measured values by name, as `Module temperature` -> `34.11 degrees C`. */
  readonly readings: ReadonlyMap<string, string>;
}

const READINGS =
  /^(?:Module temperature|Module voltage|Laser bias current|.*(?:output power|average power|optical power|Rcvr signal).*)$/i;

/** Undefined when the text is not about a module. */
export function parseModule(text: string): Module | undefined {
  const rows = [...text.matchAll(/^\s*(\S[^:\n]*?)\s*: +(.+?) *$/gm)].map(
    ([, name, value]) => [name, value] as const,
  );
  const kind = rows.find(([name]) => name === 'Identifier')?.[1];
  if (kind === undefined) return undefined;
  const on = (word: string): string[] =>
    rows.filter(([name, value]) => value === 'On' && name.endsWith(word)).map(([name]) => name);
  const isMeasured = ([name]: readonly [string, string]): boolean =>
    READINGS.test(name) && !/(?:alarm|warning|threshold|type)/i.test(name);
  return {
    kind: /\((.+)\)/.exec(kind)?.[1] ?? kind,
    alarms: on('alarm'),
    warnings: on('warning'),
    readings: new Map(rows.filter(isMeasured)),
  };
}
