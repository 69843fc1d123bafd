/** The parts of an instance that its process needs: the receiver of its mistakes, and the number of its calls that wait. */
import type { Host } from '../../../plugin/contract.js';

export interface InstanceEars {
  /** Told a mistake that the plugin makes outside of every call that varpd waits for. Must not throw. */
  readonly complain: (error: unknown) => void;
  /** Calls that have come and are not carried out yet. */
  readonly waiting: () => number;
}

/** By the host that the instance was given. */
const ears = new WeakMap<Host, InstanceEars>();

export function registerEars(host: Host, own: InstanceEars): void {
  ears.set(host, own);
}

/** Tells a mistake of the instance that has this host. */
export function complainOf(host: Host, error: unknown): void {
  ears.get(host)?.complain(error);
}

export const waitingCallsOf = (host: Host): number => ears.get(host)?.waiting() ?? 0;
