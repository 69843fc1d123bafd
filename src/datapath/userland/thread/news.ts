/**
 * What the control side is to hear of a turn: many of a kind go as one message. What a guest can cause of it is bounded where
 * it arises: questions are charged to its turn, few are open at a time and so many a second are asked (core/questions.ts); leases: LEASE_FACTS; notices: one a second.
 */
import type { LeaseNews } from '../../../core/dhcp-leases.js';
import type { Notice } from '../../../core/notices.js';
import type { Question } from '../../../core/overlay.js';
import type { PeerChange, Report } from '../protocol.js';

export class News {
  readonly #report: (report: Report) => void;
  #questions: Question[] = [];
  #leases: LeaseNews[] = [];
  #peers: PeerChange[] = [];
  #notices: Notice[] = [];

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

  /** At the end of a turn and of a command; most have none. */
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
  }
}
