/**
 * Tells of ports whose MACs the plugin of their overlay does not know, or has at another host: other hosts do not
 * reach these. A plugin that can tell answers out of memory, so every port is asked about at each look.
 */
import { networkInterfaces } from 'node:os';
import { type Destination, type Endpoint, formatEndpoint, isSameEndpoint } from '../../wire/ip.js';
import { formatMac, type MacAddress } from '../../wire/mac.js';
import type { ObservedOverlay } from './observed.js';

/** Ports that a sentence names. */
const MAX_NAMED = 2;
/** A mapping may get its entry just after the VNIC is created. */
const MIN_LOOKS = 2;

interface Misplaced {
  readonly port: string;
  readonly mac: MacAddress;
  readonly place: Destination | null;
}

/** The addresses of an interface of this host. */
type AddressesOf = (name: string) => readonly string[];

export class PlaceNews {
  readonly #addressesOf: AddressesOf;
  /** For each port that was misplaced at the last look: at how many looks so far. */
  #looks = new Map<string, number>();

  constructor(addressesOf: AddressesOf = hostAddressesOf) {
    this.#addressesOf = addressesOf;
  }

  look(overlays: Iterable<ObservedOverlay>): void {
    const looks = new Map<string, number>();
    for (const overlay of overlays) {
      const told: Misplaced[] = [];
      for (const one of this.#misplaced(overlay)) {
        const key = `${overlay.id} ${one.port} ${one.mac} ${place(one)}`;
        const count = (this.#looks.get(key) ?? 0) + 1;
        looks.set(key, count);
        if (count >= MIN_LOOKS) told.push(one);
      }
      overlay.health.tell('places', told.length === 0 ? undefined : sentence(told, overlay.listen));
    }
    this.#looks = looks;
  }

  #misplaced(overlay: ObservedOverlay): Misplaced[] {
    const found: Misplaced[] = [];
    for (const { port, mac, place } of overlay.places()) {
      if (place === undefined || (place !== null && isSameEndpoint(place, overlay.listen))) continue;
      // The own interface need not be a station of the network.
      if (place === null && port === overlay.name && !this.#isStation(port)) continue;
      found.push({ port, mac, place });
    }
    return found;
  }

  #isStation(name: string): boolean {
    return this.#addressesOf(name).some((ip) => !ip.startsWith('fe80:'));
  }
}

function hostAddressesOf(name: string): string[] {
  return networkInterfaces()[name]?.map(({ address }) => address) ?? [];
}

const place = ({ place }: Misplaced): string => (place === null ? '' : formatEndpoint(place));

function sentence(ports: readonly Misplaced[], listen: Endpoint): string {
  const unknown = ports.filter(({ place }) => place === null);
  const elsewhere = ports.filter(({ place }) => place !== null);
  const here = formatEndpoint(listen);
  return [
    ...(unknown.length === 0
      ? []
      : [
          `the mapping does not know ${list(unknown, () => '')}: no other host finds it; add it with ${here}`,
        ]),
    ...(elsewhere.length === 0
      ? []
      : [`the mapping has ${list(elsewhere, (one) => ` at ${place(one)}`)}, and it is here, at ${here}`]),
  ].join('; ');
}

/** `foo0 (02:08:20:00:00:01), foo1 (02:08:20:00:00:02) and 3 more` */
function list(ports: readonly Misplaced[], more: (one: Misplaced) => string): string {
  const named = ports
    .slice(0, MAX_NAMED)
    .map((one) => `${one.port} (${formatMac(one.mac)})${more(one)}`)
    .join(', ');
  return ports.length <= MAX_NAMED ? named : `${named} and ${ports.length - MAX_NAMED} more`;
}
