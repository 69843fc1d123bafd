/** Overlays as a document declares them: `dladm export` and `dladm apply`. */

/** A VNIC as a document declares it. */
export interface DeclaredVnic {
  readonly name: string;
  /** Undefined: the MAC that it has, or a random one. */
  readonly mac?: string;
  /** Undefined or 0: none. */
  readonly vid?: number;
  /** Link properties that are set. */
  readonly properties: [name: string, values: string[]][];
}

/** An overlay as a document declares it. */
export interface DeclaredOverlay {
  readonly name: string;
  readonly encap: string;
  readonly search: string;
  readonly vnetid: number;
  /** Properties that are set; the others have their defaults. */
  readonly properties: [name: string, text: string][];
  readonly vnics: readonly DeclaredVnic[];
}
