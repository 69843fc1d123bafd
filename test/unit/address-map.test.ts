// Maps by underlay address: beside a Map, with few entries and with many, and changes while the keys are read.
import t from 'tap';

import { AddressMap } from '../../src/model/address-map.js';
import { type IpAddress, parse } from '../../src/wire/ip.js';
import { times } from '../helpers/scenes.js';

const ipOf = (index: number): IpAddress => parse(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`)!;
const MANY = 20_000;

t.test('it has what a Map would have', (t) => {
  const [map, model] = [new AddressMap<number>(), new Map<IpAddress, number>()];
  for (const step of times(3 * MANY, (index) => index)) {
    const ip = ipOf((step * 7919) % MANY);
    if (step % 5 === 4) {
      map.delete(ip);
      model.delete(ip);
    } else {
      map.set(ip, step);
      model.set(ip, step);
    }
    if (step === 100) t.strictSame([...map.keys()], [...model.keys()], 'few are in their order');
  }
  t.equal(map.size, model.size);
  t.strictSame([...map.keys()].sort(), [...model.keys()].sort());
  const wrong = times(MANY, ipOf).filter(
    (ip) => map.get(ip) !== model.get(ip) || map.has(ip) !== model.has(ip),
  );
  t.strictSame(wrong, []);
  t.end();
});

t.test('addresses that stay come once, whatever changes while they are read', (t) => {
  for (const count of [100, 4000, MANY]) {
    const map = new AddressMap<number>();
    for (const ip of times(count, ipOf)) map.set(ip, 0);
    const seen: IpAddress[] = [];
    for (const ip of map.keys()) {
      seen.push(ip);
      // It grows, and what was read goes.
      if (seen.length <= count) map.set(ipOf(1_000_000 + seen.length), 1);
      if (seen.length % 3 === 0) map.delete(ip);
    }
    const distinct = new Set(seen);
    t.equal(distinct.size, seen.length, `${count}: none twice`);
    t.strictSame(
      times(count, ipOf).filter((ip) => !distinct.has(ip)),
      [],
      `${count}: none left out`,
    );
  }
  t.end();
});
