/**
 * Reports to the control side about one turn; many of a kind go as one message. A guest can cause only a
 * bounded number, and each bound is at its source. Questions: they are charged to the guest's turn, and their
 * number and rate are limited (core/queues/questions.ts). Leases: LEASE_FACTS. Notices: one a second.
 * Probes: the operator's frames, and REPORT_RATE.
 */
import type { LeaseNews } from '../../../core/protection/dhcp-leases.js';
import type { Notice } from '../../../core/notices.js';
import type { Question } from '../../../core/overlay.js';
import type { ProbeNews } from '../../../core/probe/probe.js';
import type { PeerChange, Report } from '../protocol.js';

export class News {
  readonly #report: (report: Report) => void;
  #questions: Question[] = [];
  #leases: LeaseNews[] = [];
  #peers: PeerChange[] = [];
  #notices: Notice[] = [];
  #probes: ProbeNews[] = [];

  constructor(report: (report: Report) => void) {
    this.#report = report;
  }

  asked(question: Question): void {
    this.#questions.push(question);
  }

  leased(news: LeaseNews): void {
    this.#leases.push(news);
  }

  peerChanged(change: PeerChange): void {
    this.#peers.push(change);
  }

  noticed(notice: Notice): void {
    this.#notices.push(notice);
  }

  probed(news: ProbeNews): void {
    this.#probes.push(news);
  }

  /** Sends the reports, at the end of a turn and of a command. Most turns have none. */
  send(): void {
    if (this.#questions.length > 0) {
      const questions = this.#questions;
      this.#questions = [];
      this.#report({ kind: 'lookups', questions });
    }
    if (this.#leases.length > 0) {
      const news = this.#leases;
      this.#leases = [];
      this.#report({ kind: 'leases', news });
    }
    if (this.#peers.length > 0) {
      const changes = this.#peers;
      this.#peers = [];
      this.#report({ kind: 'peers', changes });
    }
    if (this.#notices.length > 0) {
      const notices = this.#notices;
      this.#notices = [];
      this.#report({ kind: 'notices', notices });
    }
    if (this.#probes.length > 0) {
      const news = this.#probes;
      this.#probes = [];
      this.#report({ kind: 'probes', news });
    }
  }
}
