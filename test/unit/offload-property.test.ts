// The property offload: every word and combination, the canonical spelling, and the sentence for each mistake.
import t from 'tap';

import { parseOverlayProperty, splitOverlayProperties } from '../../src/cli/overlay-properties.js';
import { offloadFlags } from '../../src/datapath/userland/main/tap-settings.js';
import { TUN_F } from '../../src/dgram-extra/index.js';
import { specsByEncapsulation } from '../../src/model/overlay-specs.js';
import { OFFLOADS, offloadsOf, USUAL_OFFLOADS } from '../../src/model/offloads.js';
import { parseValue } from '../../src/model/properties.js';

const spec = specsByEncapsulation()
  .get('vxlan')!
  .find(({ name }) => name === 'offload')!;
const LIST = 'auto, off, or a list out of checksum, tso, uso, train, tunnel, coalesce, nested';

t.test('values, and their canonical spelling', (t) => {
  for (const [text, value = text, offloads = value.split(',')] of [
    ['auto', 'auto', USUAL_OFFLOADS],
    ['off', 'off', []],
    ['checksum'],
    ['train'],
    ['coalesce'],
    ['checksum,tso'],
    ['uso,checksum', 'checksum,uso'],
    ['nested,uso,checksum', 'checksum,uso,nested'],
    ['tunnel,tso,checksum', 'checksum,tso,tunnel'],
    ['coalesce,train', 'train,coalesce'],
    [[...OFFLOADS].reverse().join(), OFFLOADS.join()],
  ] as const satisfies readonly (readonly [string, string?, (readonly string[])?])[]) {
    t.same(parseValue(spec, text), { value }, text);
    t.same(offloadsOf(value), offloads, text);
  }
  t.end();
});

t.test('mistakes', (t) => {
  for (const [text, expected] of [
    ['', `${LIST}: an offload is missing`],
    ['checksum,', `${LIST}: an offload is missing`],
    ['checksum,,tso', `${LIST}: an offload is missing`],
    ['tunel', `${LIST}: there is no 'tunel', did you mean tunnel?`],
    ['gso', `${LIST}: there is no 'gso', did you mean tso?`],
    ['checksum,trian', `${LIST}: there is no 'trian', did you mean train?`],
    ['AUTO', `${LIST}: there is no 'AUTO', did you mean auto?`],
    ['checksum, tso', `${LIST}: there is no ' tso', did you mean tso?`],
    ['auto,tso', `${LIST}: auto stands alone`],
    ['checksum,off', `${LIST}: off stands alone`],
    ['train,checksum,train', "each offload once: 'train' is given twice"],
    ['tso', 'checksum too: tso needs it'],
    ['train,uso', 'checksum too: uso needs it'],
    ['tunnel', 'tso too: tunnel needs it'],
    ['checksum,nested', 'tso or uso too: nested needs one of them'],
    ['nested,tso', 'checksum too: tso needs it'],
  ] as const)
    t.same(parseValue(spec, text), { expected }, text);
  t.end();
});

t.test('a list among the properties of -p', (t) => {
  const parse = (lists: readonly string[]) => splitOverlayProperties(lists).map(parseOverlayProperty);
  t.same(parse(['offload=checksum,tso,mtu=1400', 'offload=train']), [
    ['offload', 'checksum,tso'],
    ['mtu', '1400'],
    ['offload', 'train'],
  ]);
  t.same(parse(['offload=checksum\\,tso', '']), [['offload', 'checksum,tso']]);
  t.same(parse(['offload=checksum,']), [['offload', 'checksum,']]);
  for (const list of ['mtu=1400,tso', 'tso,offload=checksum', 'mtu=1400,'])
    t.throws(() => parse([list]), { message: 'invalid overlay property' }, list);
  t.throws(() => parse(['offload=checksum', 'tso']), {
    message: 'invalid overlay property',
  });
  t.end();
});

t.test('the flags of a TAP', (t) => {
  const all = { tapTcpSegmentation: true, tapUdpSegmentation: true, tapTunnelSegmentation: true };
  const tso = TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN;
  const uso = TUN_F.USO4 | TUN_F.USO6;
  const nested = TUN_F.UDP_TUNNEL_GSO | TUN_F.UDP_TUNNEL_GSO_CSUM;
  const none = { tapTcpSegmentation: false, tapUdpSegmentation: false, tapTunnelSegmentation: false };
  for (const [value, flags, onOld] of [
    ['off', 0, 0],
    ['train,coalesce', 0, 0],
    ['checksum', TUN_F.CSUM, TUN_F.CSUM],
    ['checksum,tso', TUN_F.CSUM | tso, TUN_F.CSUM],
    ['checksum,uso,nested', TUN_F.CSUM | uso | nested, TUN_F.CSUM],
    ['auto', TUN_F.CSUM | tso | uso | nested, TUN_F.CSUM],
  ] as const) {
    t.equal(offloadFlags(offloadsOf(value), all), flags, value);
    t.equal(offloadFlags(offloadsOf(value), none), onOld, `${value}, an old kernel`);
  }
  const { tapTcpSegmentation } = none;
  t.equal(
    offloadFlags(offloadsOf('checksum,tso,nested'), { ...all, tapTcpSegmentation }),
    TUN_F.CSUM,
    'no tunnel without segmentation',
  );
  t.end();
});
