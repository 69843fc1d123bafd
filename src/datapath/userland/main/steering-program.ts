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

// linux/bpf.h, linux/bpf_common.h: struct bpf_insn is { u8 code, u8 registers, s16 offset, s32 immediate }.
const INSTRUCTION_BYTES = 8;
const LOAD_INDIRECT = 0x40; // BPF_LD | BPF_IND: from the packet, at a register's value and an offset, into r0 in host byte order
const SIZE = { 4: 0x00, 2: 0x08, 1: 0x10 } as const; // BPF_W, BPF_H, BPF_B
const ALU = { ADD: 0x04, AND: 0x54, SHIFT_LEFT: 0x64, SHIFT_RIGHT: 0x74, MULTIPLY: 0x24 } as const; // BPF_ALU | BPF_K
const ADD_REGISTER = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
const XOR_REGISTER = 0xac; // BPF_ALU | BPF_XOR | BPF_X
const MOVE_REGISTER = 0xbc; // BPF_ALU | BPF_MOV | BPF_X, 32 bits
const MOVE_REGISTER_64 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOVE = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const JUMP = { ALWAYS: 0x05, IF_EQUAL: 0x15, UNLESS_EQUAL: 0x55 } as const; // BPF_JMP | BPF_K
const EXIT = 0x95;

/** Registers: the result; the context that loads read from; the hash; the start of the current header; its
 * protocol; the argument. */
const [R0, CONTEXT, HASH, AT, PROTOCOL, ARGUMENT] = [0, 6, 7, 8, 9, 1];

const ETHER_TYPE = 12;
const TAGS = [vlan.CUSTOMER_TAG, vlan.SERVICE_TAG, vlan.OLD_SERVICE_TAG];
const GOLDEN = 0x9e37_79b1; // as flow.ts mixes
/** More fragments, and the offset: RFC 791 3.1 */
const FRAGMENT = 0x3fff;

export function steeringProgram(): Uint8Array {
  const code = new Assembler();
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
function addTags(code: Assembler): void {
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

function addV4(code: Assembler): void {
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
function addV6(code: Assembler): void {
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
  code: Assembler,
  { least, shift }: { readonly least: number; readonly shift: number },
): void {
  code.load(0, 1);
  code.add(MOVE_REGISTER, PROTOCOL, R0);
  code.load(1, 1);
  code.add(ALU.ADD, R0, 0, least);
  code.add(ALU.SHIFT_LEFT, R0, 0, shift);
  code.add(ADD_REGISTER, AT, R0);
}

/** Instructions in order. Jumps go forward to labels. */
class Assembler {
  readonly #instructions: { code: number; to: number; from: number; immediate: number; label?: string }[] =
    [];
  readonly #labels = new Map<string, number>();

  add(code: number, to: number, from = 0, immediate = 0): void {
    this.#instructions.push({ code, to, from, immediate });
  }

  /** Loads into R0 from AT + `offset`. */
  load(offset: number, bytes: 1 | 2 | 4): void {
    this.add(LOAD_INDIRECT | SIZE[bytes], 0, AT, offset);
  }

  /** Does the same and mixes the value into the hash. */
  xor(offset: number, bytes: 2 | 4): void {
    this.load(offset, bytes);
    this.add(XOR_REGISTER, HASH, R0);
  }

  jump(code: number, label: string, immediate = 0, register = R0): void {
    this.#instructions.push({ code, to: register, from: 0, immediate, label });
  }

  label(name: string): void {
    this.#labels.set(name, this.#instructions.length);
  }

  assemble(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.#instructions.length * INSTRUCTION_BYTES));
    this.#instructions.forEach(({ code, to, from, immediate, label }, index) => {
      const at = index * INSTRUCTION_BYTES;
      const jump = label === undefined ? 0 : (this.#labels.get(label) ?? index) - index - 1;
      if (label !== undefined && jump < 0) throw new Error(`steering program: no way forward to '${label}'`);
      view.setUint8(at, code);
      view.setUint8(at + 1, to | (from << 4)); // bit fields: the low half first where bytes are little-endian
      view.setInt16(at + 2, jump, true);
      view.setInt32(at + 4, immediate, true);
    });
    return new Uint8Array(view.buffer);
  }
}
