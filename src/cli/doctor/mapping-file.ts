/**
 * Reads a mapping of the files plugin by the plugin's own code. It is loaded by path, as check-mapping does,
 * so that the command line needs no knowledge of the format.
 */
import type { CheckReport, FileProblem } from '../../plugin/contract.js';
import type { Endpoint } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';

/** The directory dist/plugins, beside dist/src. */
const PLUGIN = new URL('../../../plugins/files/', import.meta.url);

interface Loaded extends Pick<CheckReport, 'errors' | 'errorCount' | 'warnings'> {
  /** Undefined when the file is not valid. */
  readonly mapping: LoadedMapping | undefined;
}

interface LoadedMapping {
  readonly size: number;
  readonly destinations: readonly Endpoint[];
  destinationOf(mac: MacAddress): Endpoint | undefined;
}

export interface MappingFacts {
  readonly file: string;
  /** Why the file could not be read. */
  readonly unread: string | undefined;
  /** The first error, with its place. */
  readonly error: string | undefined;
  readonly mapping: LoadedMapping | undefined;
}

export async function readMapping(file: string): Promise<MappingFacts> {
  try {
    const { readWhole } = (await import(new URL('read.js', PLUGIN).href)) as {
      readWhole: (file: string) => Promise<unknown>;
    };
    const { loadMapping } = (await import(new URL('load.js', PLUGIN).href)) as {
      loadMapping: (contents: Promise<unknown>) => Promise<Loaded>;
    };
    const { mapping, errors } = await loadMapping(readWhole(file));
    const error = errors.at(0);
    return { file, unread: undefined, error: error && problemText(file, error), mapping };
  } catch (error) {
    return { file, unread: (error as Error).message, error: undefined, mapping: undefined };
  }
}

function problemText(file: string, { line, column, path, found, expected }: FileProblem): string {
  return `${file}:${line}:${column}: ${path}: found ${found}, expected ${expected}`;
}
