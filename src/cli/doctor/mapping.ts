/** Compares the mapping of the files plugin with the VNICs and the listen address of an overlay. */
import { counted } from '../../model/sentences.js';
import { parseMac } from '../../wire/mac.js';
import { fail, firstOf, ok, type Plain, skip, warn } from './finding.js';
import type { OverlaySubject } from './subject.js';

export type MappedOverlay = Pick<OverlaySubject, 'listenIp' | 'vnics' | 'mapping'>;

const CODES = ['MAPPING-HOST', 'MAPPING-VNIC', 'MAPPING-PLACE'] as const;

/** No line for an overlay of another plugin. */
export function checkMapping({ listenIp, vnics, mapping: facts }: MappedOverlay): Plain[] {
  if (facts === undefined) return [];
  const { file, unread, error, mapping } = facts;
  if (unread !== undefined) {
    const isMissing = /is not there/.test(unread);
    const first = isMissing
      ? fail(
          'MAPPING-FILE',
          unread,
          'put the file there: varpd keeps what it has read before, and a start without it fails',
        )
      : skip('MAPPING-FILE', unread);
    return [first, ...CODES.map((code) => skip(code, `${file} was not read`))];
  }
  if (mapping === undefined)
    return [
      fail(
        'MAPPING-FILE',
        error ?? `${file} is not valid`,
        `mend it; dladm check-mapping ${file} names every error`,
      ),
      ...CODES.map((code) => skip(code, `${file} is not valid`)),
    ];
  const places = vnics.map(({ name, mac }) => ({
    name,
    mac,
    place: mapping.destinationOf(parseMac(mac)!)?.ip,
  }));
  const absent = places.filter(({ place }) => place === undefined);
  const elsewhere = places.filter(({ place }) => place !== undefined && place !== listenIp);
  const isHere = mapping.destinations.some(({ ip }) => ip === listenIp);
  return [
    ok('MAPPING-FILE', `${file} is valid: ${counted(mapping.size, 'entry', 'entries')}`),
    isHere
      ? ok('MAPPING-HOST', `the mapping has entries at ${listenIp}`)
      : warn(
          'MAPPING-HOST',
          `no entry of the mapping lives at ${listenIp}, the listen address of this host: other hosts drop what it sends`,
          `give an entry "ip": "${listenIp}", or is the listen address another one?`,
        ),
    absent.length === 0
      ? ok('MAPPING-VNIC', 'the mapping has each VNIC of this overlay')
      : fail(
          'MAPPING-VNIC',
          `the mapping does not have ${firstOf(absent.map(({ name, mac }) => `${name} (${mac})`))}: no other host finds it`,
          `add an entry for ${absent[0].mac} with "ip": "${listenIp}" to ${file} on every host`,
        ),
    elsewhere.length === 0
      ? ok('MAPPING-PLACE', 'the mapping has no VNIC of this overlay at another host')
      : fail(
          'MAPPING-PLACE',
          `the mapping has ${firstOf(elsewhere.map(({ name, mac }) => `${name} (${mac})`))} at ${elsewhere[0].place}, and it is here, at ${listenIp}`,
          `set "ip" of ${elsewhere[0].mac} to "${listenIp}" in ${file} on every host`,
        ),
  ];
}
