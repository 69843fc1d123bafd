/** A port as its datapath thread has it: device, turn, the rules for its owner, and its DHCP leases. */
import type { Captures } from '../../../core/capture/capture.js';
import { Allowance } from '../../../core/queues/allowance.js';
import { type AskedLeases, createAskedLeases } from '../../../core/protection/asked-leases.js';
import { DhcpLeases, LEASE_FACTS, type LeaseNews } from '../../../core/protection/dhcp-leases.js';
import { LinkProtection, type ProtectionRules } from '../../../core/protection/link-protection.js';
import { OutputList } from '../../../core/outputs.js';
import type { Overlay, Port, Shared } from '../../../core/overlay.js';
import { createPresence, Presence } from '../../../core/presence.js';
import { TunnelEnds } from '../../../core/tables/tunnel-ends.js';
import { QUESTION_RATE } from '../../../core/queues/questions.js';
import { ANSWER_RATE } from '../../../core/too-big.js';
import type { PortDevice } from '../../../io/contract.js';
import { dropOfPortError } from '../../../model/drops.js';
import { fromHalves, highOf, lowOf, type MacAddress } from '../../../wire/mac.js';
import type { Command } from '../protocol.js';
import { PortTurn } from './port-turn.js';

export interface Attachment {
  readonly overlay: Overlay;
  readonly device: PortDevice;
  readonly capacityFrames: number;
  readonly shared: Shared;
  leased(news: LeaseNews): void;
}

export class AttachedPort {
  readonly fd: number;
  readonly overlay: Overlay;
  readonly turn: PortTurn;
  readonly port: Port;
  /** Shared by all queues of the port. */
  readonly #asked: AskedLeases;
  readonly #allowance: Allowance;
  readonly #leased: (news: LeaseNews) => void;
  /** Kept when the rules change. */
  #leases: DhcpLeases;

  /** Adds the port to its overlay. */
  constructor(command: Extract<Command, { kind: 'add-port' }>, attachment: Attachment) {
    const { overlay, device, capacityFrames, shared } = attachment;
    const { fd, name, mac, vid, own, protection, counters } = command;
    this.fd = fd;
    this.overlay = overlay;
    this.port = {
      name,
      macHigh: highOf(mac),
      macLow: lowOf(mac),
      vid,
      own,
      output: new OutputList(device, capacityFrames, dropOfPortError),
      answers: new Allowance(shared, ANSWER_RATE),
      questions: new Allowance(shared, QUESTION_RATE),
      counters,
      presence: new Presence(command.presence ?? createPresence()),
      tunnelEnds: new TunnelEnds(),
      protection: undefined,
    };
    this.turn = new PortTurn(device, overlay, this.port);
    this.#asked = command.askedLeases ?? createAskedLeases();
    this.#allowance = new Allowance(shared, LEASE_FACTS);
    this.#leased = (news) => {
      attachment.leased(news);
    };
    this.#leases = this.#newLeases();
    this.protect(protection);
    overlay.addPort(this.port);
  }

  /** Notes that the device has another MAC, with rules for that MAC. */
  setMac(mac: MacAddress, rules: ProtectionRules | undefined): void {
    this.overlay.setPortMac(this.port, mac);
    this.#leases = this.#newLeases();
    this.protect(rules);
  }

  setVid(vid: number): void {
    this.port.vid = vid;
  }

  rename(name: string, captures: Captures): void {
    captures.renamed(this.overlay, this.port.name, name);
    this.port.name = name;
  }

  /** Sets the rules. Undefined: the owner may send anything. */
  protect(rules: ProtectionRules | undefined): void {
    const { port } = this;
    port.protection = rules && new LinkProtection(rules, fromHalves(port.macHigh, port.macLow), this.#leases);
  }

  #newLeases(): DhcpLeases {
    const { port } = this;
    const { macHigh, macLow } = port;
    const { id } = this.overlay.options;
    return new DhcpLeases(macHigh, macLow, this.#asked, this.#allowance, (family, ip, validS) => {
      this.#leased({ overlay: id, port: port.name, family, ip, validS });
    });
  }
}
