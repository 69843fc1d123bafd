/**
 * A BPF program that is loaded at the start. That takes CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), which varpd gives up
 * before anything else. So the descriptor is inherited by each process that this one becomes.
 */
import { isAnonymous, loadProgram, setInheritable } from '../../../dgram-extra/index.js';

export class InheritedProgram {
  readonly #type: 'filter' | 'ingress';
  readonly #instructions: () => Promise<Uint8Array>;
  #fd: number | undefined;

  constructor(type: 'filter' | 'ingress', instructions: () => Promise<Uint8Array>) {
    this.#type = type;
    this.#instructions = instructions;
  }

  /** Takes the program that the previous process left (`leave`), or loads a new one if this process may. */
  async open(left?: string): Promise<void> {
    const isLeft = left !== undefined && /^\d{1,9}$/.test(left) && isAnonymous(Number(left), 'bpf-prog');
    this.#fd = isLeft ? Number(left) : loadProgram(await this.#instructions(), this.#type);
    if (this.#fd !== undefined) setInheritable(this.#fd, false);
  }

  /** Returns the descriptor for the process that this one is about to become, or that it starts as the daemon. Undefined
   * if there is no program. */
  leave(): string | undefined {
    if (this.#fd === undefined) return undefined;
    setInheritable(this.#fd, true);
    return String(this.#fd);
  }

  /** Undefined if there is no program. */
  get fd(): number | undefined {
    return this.#fd;
  }
}
