/** Names and MACs for new overlays and VNICs: checks that they are valid, and that no other one has them. */
import { OverlayError } from '../../../model/errors.js';
import { checkName, NAME_RULE } from '../../../model/names.js';
import { foundExpected, printable } from '../../../model/properties.js';
import { inUse } from '../../../model/sentences.js';
import type { MacAddress } from '../../../plugin/contract.js';
import { formatMac, isMulticast, randomLocalMac, ZERO } from '../../../wire/mac.js';
import type { Links } from '../../underlay/links.js';
import type { OverlayDirectory } from '../directory.js';
import type { RunningOverlay } from '../running-overlay.js';

export class NewNames {
  readonly #directory: OverlayDirectory;
  readonly #links: Pick<Links, 'exists'>;
  /** Names of overlays and VNICs that are being created. */
  readonly #reserved = new Set<string>();

  constructor(directory: OverlayDirectory, links: Pick<Links, 'exists'>) {
    this.#directory = directory;
    this.#links = links;
  }

  /**
   * Keeps others from the name while `work` is under way. Rejects with an OverlayError when the name is taken
   * or invalid.
   */
  async reserve(name: string, work: () => Promise<void>): Promise<void> {
    this.check(name);
    this.#reserved.add(name);
    try {
      await work();
    } finally {
      this.#reserved.delete(name);
    }
  }

  /** Throws an OverlayError when the name is taken or invalid. `gone`: names that will be free by then. */
  check(name: string, gone?: ReadonlySet<string>): void {
    if (checkName(name) !== undefined)
      throw new OverlayError('INVALID', `invalid link name '${printable(name)}': ${NAME_RULE}`);
    if (gone?.has(name) === true) return;
    if (this.#reserved.has(name) || this.#directory.isStored(name) || this.#directory.runs(name))
      throw exists(name);
    this.checkLink(name);
  }

  /** Throws an OverlayError when the kernel has a link of this name. */
  checkLink(name: string): void {
    if (this.#links.exists(name))
      throw new OverlayError('EXISTS', `there is a network interface ${name} that is not varpd's`);
  }

  /** Throws an OverlayError when no VNIC over this overlay can have this MAC. */
  checkMac(overlay: Pick<RunningOverlay, 'name' | 'hasMac'>, mac: MacAddress): void {
    const text = formatMac(mac);
    if (mac === ZERO || isMulticast(mac))
      throw new OverlayError('INVALID', `mac: ${foundExpected(text, 'a unicast address other than zero')}`);
    if (overlay.hasMac(mac) || this.#directory.storedVnics(overlay.name).some((vnic) => vnic.mac === text))
      throw inUse(`mac: ${text}`, overlay.name);
  }

  /** A MAC that is not among these. */
  randomMac(taken: ReadonlySet<string>, isTaken: (mac: MacAddress) => boolean = () => false): MacAddress {
    for (;;) {
      const mac = randomLocalMac(Math.random);
      if (!isTaken(mac) && !taken.has(formatMac(mac))) return mac;
    }
  }

  freeMac(overlay: RunningOverlay): MacAddress {
    const taken = new Set(this.#directory.storedVnics(overlay.name).map((vnic) => vnic.mac));
    return this.randomMac(taken, (mac) => overlay.hasMac(mac));
  }
}

export function exists(name: string): OverlayError {
  return new OverlayError('EXISTS', `there is an overlay or a VNIC ${name} already`);
}
