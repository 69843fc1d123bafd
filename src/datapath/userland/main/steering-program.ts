/**
 * The BPF program that the kernel runs for each frame that the stack sends to a TAP with several queues. Its
 * result is a hash of the flow, and the TAP takes it modulo its number of queues, so that one program serves
 * any number.
 *
 * The hash is made of addresses and ports, mixed so that both directions have the same. A fragment counts by
 * its addresses, since only the first has ports; a frame without IP counts by its MACs. A first tag may be
 * beside the frame or in it (from a bridge or a raw socket), so tags are skipped. If a frame is too short for
 * a load, the program ends with 0.
 */
import * as ethernet from '../../../wire/ethernet.js';
import * as ipv4 from '../../../wire/ipv4.js';
import * as ipv6 from '../../../wire/ipv6.js';
import * as vlan from '../../../wire/vlan.js';
import {
  ADD_REGISTER,
  ALU,
  ARGUMENT,
  Assembler,
  EXIT,
  JUMP,
  LOAD_INDIRECT,
  MOVE,
  MOVE_REGISTER,
  MOVE_REGISTER_64,
  R0,
  SIZE,
  XOR_REGISTER,
} from './bpf.js';

/** Registers: the context that loads read from; the hash; the start of the current header; its protocol. */
const [CONTEXT, HASH, AT, PROTOCOL] = [6, 7, 8, 9];

const ETHER_TYPE = 12;
const TAGS = [vlan.CUSTOMER_TAG, vlan.SERVICE_TAG, vlan.OLD_SERVICE_TAG];
const GOLDEN = 0x9e37_79b1; // as flow.ts mixes
/** More fragments, and the offset: RFC 791 3.1 */
const FRAGMENT = 0x3fff;

export function steeringProgram(): Uint8Array {
  const code = new SteeringCode();
  code.add(MOVE_REGISTER_64, CONTEXT, ARGUMENT);
  code.add(MOVE, HASH);
  code.add(MOVE, AT);
  addTags(code);
  code.xor(2, 4); // the low halves of both MACs
  code.xor(8, 4);
  code.jump(JUMP.ALWAYS, 'end');
  addV4(code);
  addV6(code);
  code.label('ports');
  code.xor(0, 2);
  code.xor(2, 2);
  code.label('end');
  code.add(ALU.MULTIPLY, HASH, 0, GOLDEN);
  code.add(ALU.SHIFT_RIGHT, HASH, 0, 16); // the TAP looks at 16 bits
  code.add(MOVE_REGISTER, R0, HASH);
  code.add(EXIT, 0);
  return code.assemble();
}

/** Walks from the first EtherType to that of IP. Falls through with AT = 0 if there is none. */
function addTags(code: SteeringCode): void {
  for (let tags = 0; tags <= vlan.MAX_TAGS; tags++) {
    code.load(ETHER_TYPE, 2);
    code.jump(JUMP.IF_EQUAL, 'v4', ethernet.IPV4);
    code.jump(JUMP.IF_EQUAL, 'v6', ethernet.IPV6);
    if (tags === vlan.MAX_TAGS) break;
    for (const tag of TAGS) code.jump(JUMP.IF_EQUAL, `tag ${tags}`, tag);
    code.jump(JUMP.ALWAYS, 'other');
    code.label(`tag ${tags}`);
    code.add(ALU.ADD, AT, 0, vlan.HEADER_BYTES);
  }
  code.label('other');
  code.add(MOVE, AT);
}

function addV4(code: SteeringCode): void {
  code.label('v4');
  code.add(ALU.ADD, AT, 0, ethernet.HEADER_BYTES);
  code.xor(ipv4.SOURCE, 4);
  code.xor(ipv4.DESTINATION, 4);
  code.load(6, 2);
  code.add(ALU.AND, R0, 0, FRAGMENT);
  code.jump(JUMP.UNLESS_EQUAL, 'end', 0);
  code.load(9, 1);
  code.add(MOVE_REGISTER, PROTOCOL, R0);
  code.load(0, 1);
  code.add(ALU.AND, R0, 0, 0x0f);
  code.add(ALU.SHIFT_LEFT, R0, 0, 2);
  code.add(ADD_REGISTER, AT, R0);
  code.jump(JUMP.IF_EQUAL, 'ports', ipv4.TCP, PROTOCOL);
  code.jump(JUMP.IF_EQUAL, 'ports', ipv4.UDP, PROTOCOL);
  code.jump(JUMP.ALWAYS, 'end');
}

/** Fragments, and packets with too many extension headers, count by their addresses, as in flow.ts. */
function addV6(code: SteeringCode): void {
  code.label('v6');
  code.add(ALU.ADD, AT, 0, ethernet.HEADER_BYTES);
  for (let at = ipv6.SOURCE; at < ipv6.HEADER_BYTES; at += 4) code.xor(at, 4);
  code.load(6, 1);
  code.add(MOVE_REGISTER, PROTOCOL, R0);
  code.add(ALU.ADD, AT, 0, ipv6.HEADER_BYTES);
  for (let walked = 0; walked <= ipv6.MAX_EXTENSION_HEADERS; walked++) {
    code.jump(JUMP.IF_EQUAL, 'ports', ipv4.TCP, PROTOCOL);
    code.jump(JUMP.IF_EQUAL, 'ports', ipv4.UDP, PROTOCOL);
    if (walked === ipv6.MAX_EXTENSION_HEADERS) break;
    code.jump(JUMP.IF_EQUAL, `authentication ${walked}`, ipv6.AUTHENTICATION, PROTOCOL);
    for (const header of PLAIN_EXTENSIONS) code.jump(JUMP.IF_EQUAL, `extension ${walked}`, header, PROTOCOL);
    code.jump(JUMP.ALWAYS, 'end');
    code.label(`extension ${walked}`); // RFC 6564 4: in units of 8 bytes, the first not counted
    addExtension(code, { least: 1, shift: 3 });
    code.jump(JUMP.ALWAYS, `next ${walked}`);
    code.label(`authentication ${walked}`); // RFC 4302 2.2: in units of 4 bytes, the first two not counted
    addExtension(code, { least: 2, shift: 2 });
    code.label(`next ${walked}`);
  }
  code.jump(JUMP.ALWAYS, 'end');
}

const PLAIN_EXTENSIONS = [
  ipv6.HOP_BY_HOP,
  ipv6.ROUTING,
  ipv6.DESTINATION_OPTIONS,
  ipv6.MOBILITY,
  ipv6.HIP,
  ipv6.SHIM6,
];

/** Moves to the next header. The length of the current one is ((second byte) + least) << shift. */
function addExtension(
  code: SteeringCode,
  { least, shift }: { readonly least: number; readonly shift: number },
): void {
  code.load(0, 1);
  code.add(MOVE_REGISTER, PROTOCOL, R0);
  code.load(1, 1);
  code.add(ALU.ADD, R0, 0, least);
  code.add(ALU.SHIFT_LEFT, R0, 0, shift);
  code.add(ADD_REGISTER, AT, R0);
}

class SteeringCode extends Assembler {
  /** Loads into R0 from AT + `offset`. */
  load(offset: number, bytes: 1 | 2 | 4): void {
    this.add(LOAD_INDIRECT | SIZE[bytes], R0, AT, offset);
  }

  /** Does the same and mixes the value into the hash. */
  xor(offset: number, bytes: 2 | 4): void {
    this.load(offset, bytes);
    this.add(XOR_REGISTER, HASH, R0);
  }
}
