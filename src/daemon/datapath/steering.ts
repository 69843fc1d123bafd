/**
 * Which queue of a TAP gets a frame that the stack sends: a small BPF program, run by the kernel for each of them.
 *
 * Left alone, the kernel gives a flow to the queue that last wrote a frame of it, and forgets that after 3 s: the flow
 * moves whenever an answer comes, and what still waits in the old queue is overtaken. The program takes the flow alone:
 * addresses and ports, mixed so that both directions come to the same. Fragments go by their addresses, since only the
 * first has ports; what is not IP goes by its MACs. A frame too short for a load ends the program with 0.
 */
import { closeDescriptor, loadProgram, setTapSteering } from '../../dgram-extra/index.js';
import * as ethernet from '../../wire/ethernet.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';

/** False where that cannot be had (CAP_BPF is wanting, or the kernel is too old); the kernel's own way is left then. */
export function steerByFlow(fd: number, queues: number, name: string): boolean {
  const program = loadProgram(steeringProgram(queues));
  if (program === undefined) return false;
  try {
    return setTapSteering(fd, program, name);
  } finally {
    closeDescriptor(program); // the device holds it
  }
}

// linux/bpf.h, linux/bpf_common.h: struct bpf_insn is { u8 code, u8 registers, s16 offset, s32 immediate }.
const INSTRUCTION_BYTES = 8;
const LOAD_ABSOLUTE = 0x20; // BPF_LD | BPF_ABS: from the packet into r0, in host byte order
const LOAD_INDIRECT = 0x40; // BPF_LD | BPF_IND: the same at a register's value and an offset
const SIZE = { 4: 0x00, 2: 0x08, 1: 0x10 } as const; // BPF_W, BPF_H, BPF_B
const ALU = { AND: 0x54, SHIFT_LEFT: 0x64, SHIFT_RIGHT: 0x74, MULTIPLY: 0x24, MODULO: 0x94 } as const; // BPF_ALU | BPF_K
const XOR_REGISTER = 0xac; // BPF_ALU | BPF_XOR | BPF_X
const MOVE_REGISTER = 0xbc; // BPF_ALU | BPF_MOV | BPF_X, 32 bits
const MOVE_REGISTER_64 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const MOVE = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const JUMP = { ALWAYS: 0x05, IF_EQUAL: 0x15, UNLESS_EQUAL: 0x55 } as const; // BPF_JMP | BPF_K
const EXIT = 0x95;

/** Result, what loads read from, the hash, the length of an IPv4 header. */
const [R0, CONTEXT, HASH, HEADER, ARGUMENT] = [0, 6, 7, 8, 1];

const ETHER_TYPE = 12;
const IP = ethernet.HEADER_BYTES;
const GOLDEN = 0x9e37_79b1; // as flow.ts mixes
/** More fragments, and the offset: RFC 791 3.1 */
const FRAGMENT = 0x3fff;

/** For frames as the stack sends them: a first tag stands beside them, not in them. */
export function steeringProgram(queues: number): Uint8Array {
  const code = new Assembler();
  const xor = (at: number, bytes: 2 | 4): void => {
    code.load(at, bytes);
    code.add(XOR_REGISTER, HASH, R0);
  };
  code.add(MOVE_REGISTER_64, CONTEXT, ARGUMENT);
  code.add(MOVE, HASH);
  code.load(ETHER_TYPE, 2);
  code.jump(JUMP.IF_EQUAL, 'v4', ethernet.IPV4);
  code.jump(JUMP.IF_EQUAL, 'v6', ethernet.IPV6);
  xor(2, 4); // the low halves of both MACs
  xor(8, 4);
  code.jump(JUMP.ALWAYS, 'end');

  code.label('v4');
  xor(IP + ipv4.SOURCE, 4);
  xor(IP + ipv4.DESTINATION, 4);
  code.load(IP + 6, 2);
  code.add(ALU.AND, R0, 0, FRAGMENT);
  code.jump(JUMP.UNLESS_EQUAL, 'end', 0);
  code.load(IP, 1);
  code.add(ALU.AND, R0, 0, 0x0f);
  code.add(ALU.SHIFT_LEFT, R0, 0, 2);
  code.add(MOVE_REGISTER, HEADER, R0);
  code.load(IP + 9, 1);
  code.jump(JUMP.IF_EQUAL, 'v4 ports', ipv4.TCP);
  code.jump(JUMP.UNLESS_EQUAL, 'end', ipv4.UDP);
  code.label('v4 ports');
  for (const port of [0, 2]) {
    code.add(LOAD_INDIRECT | SIZE[2], 0, HEADER, IP + port);
    code.add(XOR_REGISTER, HASH, R0);
  }
  code.jump(JUMP.ALWAYS, 'end');

  code.label('v6');
  for (let at = ipv6.SOURCE; at < ipv6.HEADER_BYTES; at += 4) xor(IP + at, 4);
  code.load(IP + 6, 1);
  code.jump(JUMP.IF_EQUAL, 'v6 ports', ipv4.TCP);
  code.jump(JUMP.UNLESS_EQUAL, 'end', ipv4.UDP);
  code.label('v6 ports');
  xor(IP + ipv6.HEADER_BYTES, 2);
  xor(IP + ipv6.HEADER_BYTES + 2, 2);

  code.label('end');
  code.add(ALU.MULTIPLY, HASH, 0, GOLDEN);
  code.add(ALU.SHIFT_RIGHT, HASH, 0, 16);
  code.add(ALU.MODULO, HASH, 0, queues);
  code.add(MOVE_REGISTER, R0, HASH);
  code.add(EXIT, 0);
  return code.assemble();
}

/** Instructions in order; jumps go forward, to labels. */
class Assembler {
  readonly #instructions: { code: number; to: number; from: number; immediate: number; label?: string }[] =
    [];
  readonly #labels = new Map<string, number>();

  add(code: number, to: number, from = 0, immediate = 0): void {
    this.#instructions.push({ code, to, from, immediate });
  }

  load(at: number, bytes: 1 | 2 | 4): void {
    this.add(LOAD_ABSOLUTE | SIZE[bytes], 0, 0, at);
  }

  jump(code: number, label: string, immediate = 0): void {
    this.#instructions.push({ code, to: R0, from: 0, immediate, label });
  }

  label(name: string): void {
    this.#labels.set(name, this.#instructions.length);
  }

  assemble(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.#instructions.length * INSTRUCTION_BYTES));
    this.#instructions.forEach(({ code, to, from, immediate, label }, index) => {
      const at = index * INSTRUCTION_BYTES;
      const jump = label === undefined ? 0 : (this.#labels.get(label) ?? NaN) - index - 1;
      view.setUint8(at, code);
      view.setUint8(at + 1, to | (from << 4)); // bit fields: the low half first where bytes are little-endian
      view.setInt16(at + 2, jump, true);
      view.setInt32(at + 4, immediate, true);
    });
    return new Uint8Array(view.buffer);
  }
}
