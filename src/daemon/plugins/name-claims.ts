/**
 * Decides which of several plugins with one name is taken. The plugin in a directory of its own name comes before any other,
 * then the first in the order of files. So the outcome depends on the files, and not on the time that each takes to load.
 *
 * A plugin is decided as soon as no file that is still being loaded could come before it. One in a directory of its own name
 * waits for no file elsewhere, whatever name that may turn out to have.
 */
import type { LookupPlugin } from '../../plugin/contract.js';
import { probableName } from './plugin-entry.js';

/** A plugin that no file under way can come before any more. */
export interface Decided {
  readonly file: string;
  readonly plugin: LookupPlugin;
}

interface Claim {
  readonly file: string;
  /** Place in the order of files. */
  readonly place: number;
  readonly probableName: string;
  /** Undefined while it is being loaded. */
  plugin?: LookupPlugin;
}

export class NameClaims {
  readonly #claims: Map<string, Claim>;

  constructor(files: readonly string[]) {
    this.#claims = new Map(
      files.map((file, place) => [file, { file, place, probableName: probableName(file) }]),
    );
  }

  /**
   * Notes the plugin of a file, or that it has none. Returns what is decided by that: of plugins with one name, the one to take
   * comes first.
   */
  settle(file: string, plugin: LookupPlugin | undefined): readonly Decided[] {
    const claim = this.#claims.get(file)!;
    if (plugin === undefined) this.#claims.delete(file);
    else claim.plugin = plugin;

    const underWay = [...this.#claims.values()].filter((other) => other.plugin === undefined);
    const decided = [...this.#claims.values()]
      .filter(isDescribed)
      .filter((own) => !underWay.some((other) => order(other, own, own.plugin.name) < 0))
      .sort((a, b) => order(a, b, a.plugin.name));
    for (const own of decided) this.#claims.delete(own.file);
    return decided;
  }
}

function isDescribed(claim: Claim): claim is Claim & Decided {
  return claim.plugin !== undefined;
}

/** Below 0: `a` comes before `b` if both are called `name`. */
function order(a: Claim, b: Claim, name: string): number {
  return Number(b.probableName === name) - Number(a.probableName === name) || a.place - b.place;
}
