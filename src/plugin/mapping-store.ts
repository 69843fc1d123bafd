/** The part of the contract for `dladm import-mapping` and `export-mapping`: a store that mappings are copied to and from. */

/**
 * Copies mappings between files and a store. dladm calls it in its own process, with the rights of its user, without a daemon
 * and without an overlay. A rejection has a sentence, and a `code` as that of `Instance.start`.
 */
export interface MappingStore {
  /**
   * Makes the store equal to the mapping, and writes only what differs. `mapping` is the text of a file that `check` of the
   * plugin `files` has accepted.
   */
  importMapping(mapping: string, target: StoreTarget, dryRun: boolean): Promise<ImportReport>;
  exportMapping(target: StoreTarget): Promise<ExportReport>;
}

/** A mapping in a store, as it is typed. */
export interface StoreTarget {
  /** `nats://store.example:4222/varpd-23` */
  readonly url: string;
  /** The values of `-p name=value`. */
  readonly properties: Readonly<Record<string, string>>;
}

/** One MAC that differs. `before` and `after` are its VTEPs; undefined when it has no entry. */
export interface EntryDifference {
  readonly mac: string;
  readonly before: string | undefined;
  readonly after: string | undefined;
}

export interface ImportReport {
  /** The mapping in the store, in words: `bucket varpd-23`. */
  readonly place: string;
  /** Numbers of entries. */
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
  readonly unchanged: number;
  /** The first differences, some thousand at most, in the order of the MACs. */
  readonly differences: readonly EntryDifference[];
  /** Number of records that were written or deleted, or would be in a dry run. */
  readonly writes: number;
  /** The first records that another writer has changed meanwhile. They were left as they are. */
  readonly conflicts: readonly string[];
  readonly conflictCount: number;
}

export interface ExportReport {
  readonly place: string;
  readonly entries: number;
  /** The text of a mapping file; undefined when there are problems. */
  readonly mapping: string | undefined;
  /** Records that a mapping file cannot have, in sentences: the first, and the number of all. */
  readonly problems: readonly string[];
  readonly problemCount: number;
}
