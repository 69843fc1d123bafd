// What holds of the proxies whatever a guest sends: they do not throw, they answer nothing that is not sound, and
// what they send is small, well-formed and goes to who asked.
import fc from 'fast-check';
import t from 'tap';
import { answerArp, readArp } from '../../src/core/proxy/proxy-arp.js';
import { readDhcp } from '../../src/core/proxy/proxy-dhcp.js';
import { answerNdp, readNdp } from '../../src/core/proxy/proxy-ndp.js';
import { describe } from '../../src/wire/describe.js';
import * as dhcpv4 from '../../src/wire/dhcpv4.js';
import * as ip from '../../src/wire/ip.js';
import * as mac from '../../src/wire/mac.js';
import { ipOf, udpFrame, withTag } from '../helpers/frames.js';
import { holds } from '../helpers/law.js';
import { frame, fromHex } from '../vectors/frames.js';

const OWNER = 0x0200_0000_00ff;
const ETHERNET_BYTES = 14;

// -- Frames

const DAD = fromHex(
  '3333ff00000b02000000000a86dd 6000000000183aff 00000000000000000000000000000000 ff0200000000000000000001ff00000b' +
    '87007c1100000000fe80000000000000000000000000000b',
);

function offer(): Uint8Array {
  const zero = ip.ANY_V4;
  const message: dhcpv4.Repr = {
    operation: dhcpv4.REPLY,
    hops: 0,
    transactionId: 1,
    secs: 0,
    wantsBroadcast: true,
    ciaddr: zero,
    yiaddr: ipOf('10.0.0.1') as ip.Ipv4Address,
    siaddr: zero,
    giaddr: zero,
    clientMac: 0x0200_0000_000a,
    options: new Map(),
  };
  const payload = new Uint8Array(dhcpv4.byteLength(message));
  dhcpv4.write(message, payload, 0);
  return udpFrame({
    source: '10.0.0.2',
    destination: '255.255.255.255',
    sourcePort: 67,
    destinationPort: 68,
    payload,
  });
}

/** Each is answered as it is, and has no padding. */
const SOUND = {
  arp: [frame('arpRequest')],
  ndp: [frame('neighborSolicitation'), DAD],
  dhcp: [frame('dhcpDiscover'), offer()],
};

/** Sound, but for a few bytes, a cut, and perhaps tags and a tail. */
function nearly(originals: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  return fc
    .record({
      original: fc.constantFrom(...originals),
      tags: fc.array(fc.nat(4095), { maxLength: 2 }),
      patches: fc.array(fc.tuple(fc.nat(95), fc.nat(255)), { maxLength: 3 }),
      tail: fc.uint8Array({ maxLength: 20 }),
      cut: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(120) }),
    })
    .map(({ original, tags, patches, tail, cut }) => {
      const tagged = tags.reduce((bytes, id) => withTag(bytes, id), original);
      const bytes = Uint8Array.from([...tagged, ...tail]);
      for (const [at, value] of patches) bytes[at % bytes.length] = value;
      return bytes.slice(0, Math.max(0, bytes.length - cut));
    });
}

const noise = fc.uint8Array({ maxLength: 400 });
const frames = (kind: keyof typeof SOUND) =>
  fc.oneof(
    { weight: 4, arbitrary: nearly(SOUND[kind]) },
    { weight: 1, arbitrary: nearly(Object.values(SOUND).flat()) },
    { weight: 1, arbitrary: noise },
  );

// -- Answers

function arpReply(bytes: Uint8Array): Uint8Array | undefined {
  const question = readArp(bytes);
  const reply = typeof question === 'string' ? question : answerArp(bytes, question, OWNER);
  return typeof reply === 'string' ? undefined : reply;
}

function ndpReply(bytes: Uint8Array): Uint8Array | undefined {
  const question = readNdp(bytes);
  const reply = typeof question === 'string' ? question : answerNdp(bytes, question, OWNER);
  return typeof reply === 'string' ? undefined : reply;
}

function dhcpClient(bytes: Uint8Array): mac.MacAddress | undefined {
  const question = readDhcp(bytes);
  return typeof question === 'string' ? undefined : question.client;
}

// -- What sound means, said in another way than the code does

const at16 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint16(at);

/** Where the payload of a tagged or untagged frame begins. */
function payloadAt(bytes: Uint8Array): number {
  let at = ETHERNET_BYTES;
  while ([0x8100, 0x88a8, 0x9100].includes(at16(bytes, at - 2))) at += 4;
  return at;
}

const text = (bytes: Uint8Array, from: number, to: number) =>
  Buffer.from(bytes.subarray(from, to)).toString('hex');

function isSoundArp(bytes: Uint8Array): boolean {
  const at = payloadAt(bytes);
  return (
    text(bytes, at - 2, at + 8) === '08060001080006040001' &&
    text(bytes, 6, 12) === text(bytes, at + 8, at + 14) &&
    text(bytes, at + 14, at + 18) !== text(bytes, at + 24, at + 28)
  );
}

function isSoundSolicitation(bytes: Uint8Array): boolean {
  const at = payloadAt(bytes);
  const length = at16(bytes, at + 4);
  const end = at + 40 + length;
  if (text(bytes, at - 2, at) !== '86dd' || bytes[at] >> 4 !== 6) return false;
  if (text(bytes, at + 6, at + 8) !== '3aff' || text(bytes, at + 40, at + 42) !== '8700') return false;
  if (length < 24 || end > bytes.length || bytes[at + 48] === 0xff) return false;
  let sum = length + 58;
  for (let word = at + 8; word < end; word += 2)
    sum += bytes[word] * 256 + (word + 1 < end ? bytes[word + 1] : 0);
  if (sum % 0xffff !== 0) return false;
  const sources: number[] = [];
  for (let option = at + 64; option < end; option += bytes[option + 1] * 8) {
    if (option + 2 > end || bytes[option + 1] === 0 || option + bytes[option + 1] * 8 > end) return false;
    if (bytes[option] === 1) sources.push(option);
  }
  if (text(bytes, at + 8, at + 24) === '00'.repeat(16))
    return sources.length === 0 && text(bytes, at + 24, at + 37) === 'ff0200000000000000000001ff';
  return sources.length === 1 && text(bytes, sources[0] + 2, sources[0] + 8) === text(bytes, 6, 12);
}

const isSmall = (reply: Uint8Array, request: Uint8Array) => reply.length <= request.length * 1.5 + 26;
const isTo = (reply: Uint8Array, request: Uint8Array) =>
  text(reply, 0, 6) === text(request, 6, 12) || text(reply, 0, 6) === '333300000001';
const hasTagsOf = (reply: Uint8Array, request: Uint8Array) =>
  text(reply, 12, payloadAt(reply)) === text(request, 12, payloadAt(request));

await t.test('sound requests are answered', (t) => {
  t.ok(SOUND.arp.every(arpReply));
  t.ok(SOUND.ndp.every(ndpReply));
  t.ok(SOUND.dhcp.every(dhcpClient));
  t.end();
});

await t.test('ARP', (t) => {
  holds(
    t,
    'only what is sound is answered',
    [frames('arp')],
    (bytes) => !arpReply(bytes) || isSoundArp(bytes),
  );
  holds(t, 'with a small reply to the asker', [frames('arp')], (bytes) => {
    const reply = arpReply(bytes);
    if (reply === undefined) return true;
    const isReply = describe(reply).includes('ARP reply');
    return isReply && isSmall(reply, bytes) && isTo(reply, bytes) && hasTagsOf(reply, bytes);
  });
  t.end();
});

await t.test('NDP', (t) => {
  holds(
    t,
    'only what is sound is answered',
    [frames('ndp')],
    (bytes) => !ndpReply(bytes) || isSoundSolicitation(bytes),
  );
  holds(t, 'with a small advertisement to the asker', [frames('ndp')], (bytes) => {
    const reply = ndpReply(bytes);
    if (reply === undefined) return true;
    const isAdvertisement = / hop 255 .*NDP advertises .* override/.test(describe(reply));
    return isAdvertisement && isSmall(reply, bytes) && isTo(reply, bytes) && hasTagsOf(reply, bytes);
  });
  t.end();
});

await t.test('DHCP', (t) => {
  holds(t, 'goes to a station, or nowhere', [frames('dhcp')], (bytes) => {
    const client = dhcpClient(bytes);
    return client === undefined || (client !== 0 && !mac.isMulticast(client));
  });
  t.end();
});

await t.test('no piece of a request is answered', (t) => {
  for (const [kind, answers] of [
    ['arp', arpReply],
    ['ndp', ndpReply],
    ['dhcp', dhcpClient],
  ] as const) {
    for (const [index, original] of SOUND[kind].entries()) {
      for (const whole of [original, withTag(original, 100)]) {
        const answered = Array.from(whole.keys()).filter((length) => answers(whole.slice(0, length)));
        t.same(answered, [], `${kind} ${index}, ${whole.length} bytes`);
      }
    }
  }
  t.end();
});

await t.test('no proxy takes the frames of another', (t) => {
  t.notOk([...SOUND.ndp, ...SOUND.dhcp].some(arpReply));
  t.notOk([...SOUND.arp, ...SOUND.dhcp].some(ndpReply));
  t.notOk([...SOUND.arp, ...SOUND.ndp].some(dhcpClient));
  t.end();
});
