/** Tells a watch what the control side does with a target table. An answer has the number of its question, which has the MAC. */
import type { TargetRow } from '../../../core/tables/target-list.js';
import type { Endpoint } from '../../../wire/ip.js';
import type { MacAddress } from '../../../wire/mac.js';
import type { LookupAnswer, LookupRequest } from '../../contract.js';
import type { TargetNews } from '../../watch-contract.js';

/** Open questions of a plugin are fewer (MAX_OPEN_LOOKUPS). Those of a plugin that has ended stay without an answer. */
const MAX_QUESTIONS = 65_536;

type Heard = (news: readonly TargetNews[] | undefined) => void;

export class TargetWatch {
  readonly #asked = new Map<number, MacAddress>();
  readonly #heard: Heard;

  constructor(heard: Heard) {
    this.#heard = heard;
  }

  asked(questions: readonly LookupRequest[]): void {
    if (this.#asked.size > MAX_QUESTIONS) this.#asked.clear();
    // The answer to a question about a frame may be for this frame alone.
    for (const { lookup, destinationMac, frame } of questions)
      if (frame === undefined) this.#asked.set(lookup, destinationMac);
  }

  answered(lookup: number, answer: LookupAnswer): void {
    const mac = this.#asked.get(lookup);
    if (mac === undefined) return;
    this.#asked.delete(lookup);
    if (answer.kind === 'target') this.#heard([{ mac, to: answer.to, origin: 'plugin' }]);
    else if (answer.kind === 'drop') this.#heard([{ mac, to: [], origin: 'plugin' }]);
  }

  set(mac: MacAddress, to: readonly Endpoint[], origin: 'set' | 'pushed'): void {
    this.#heard([{ mac, to, origin }]);
  }

  pushed(rows: readonly TargetRow[]): void {
    this.#heard(
      rows.map(({ mac, to }) => ({ mac, to: to.length === 0 ? undefined : to, origin: 'pushed' as const })),
    );
  }

  forgotten(macs: readonly MacAddress[] | undefined): void {
    this.#heard(macs?.map((mac) => ({ mac, to: undefined, origin: 'pushed' as const })));
  }
}
