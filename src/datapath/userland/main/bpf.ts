/** Assembles BPF programs: instruction codes and registers, by their use here. */

// linux/bpf.h, linux/bpf_common.h: struct bpf_insn is { u8 code, u8 registers, s16 offset, s32 immediate }.
const INSTRUCTION_BYTES = 8;
/** From the packet, into r0 in host byte order; the context is in r6. */
export const LOAD_ABSOLUTE = 0x20; // BPF_LD | BPF_ABS: at the immediate
export const LOAD_INDIRECT = 0x40; // BPF_LD | BPF_IND: at a register's value and the immediate
export const SIZE = { 4: 0x00, 2: 0x08, 1: 0x10 } as const; // BPF_W, BPF_H, BPF_B
export const STORE = 0x63; // BPF_STX | BPF_MEM | BPF_W
export const ALU = { ADD: 0x04, AND: 0x54, SHIFT_LEFT: 0x64, SHIFT_RIGHT: 0x74, MULTIPLY: 0x24 } as const; // BPF_ALU | BPF_K
export const ADD_REGISTER = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
export const XOR_REGISTER = 0xac; // BPF_ALU | BPF_XOR | BPF_X
export const MOVE_REGISTER = 0xbc; // BPF_ALU | BPF_MOV | BPF_X, 32 bits
export const MOVE_REGISTER_64 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
export const MOVE = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
export const JUMP = { ALWAYS: 0x05, IF_EQUAL: 0x15, UNLESS_EQUAL: 0x55 } as const; // BPF_JMP | BPF_K
export const CALL = 0x85; // BPF_JMP | BPF_CALL
export const EXIT = 0x95;

/** Register of the result, and of the first argument: at the start, the context. */
export const R0 = 0;
export const ARGUMENT = 1;

/** Instructions in order. Jumps go forward to labels. */
export class Assembler {
  readonly #instructions: {
    code: number;
    to: number;
    from: number;
    offset: number;
    immediate: number;
    label?: string;
  }[] = [];
  readonly #labels = new Map<string, number>();

  add(code: number, to: number, from = 0, immediate = 0, offset = 0): void {
    this.#instructions.push({ code, to, from, offset, immediate });
  }

  jump(code: number, label: string, immediate = 0, register = R0): void {
    this.#instructions.push({ code, to: register, from: 0, offset: 0, immediate, label });
  }

  label(name: string): void {
    this.#labels.set(name, this.#instructions.length);
  }

  assemble(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.#instructions.length * INSTRUCTION_BYTES));
    this.#instructions.forEach(({ code, to, from, offset, immediate, label }, index) => {
      const at = index * INSTRUCTION_BYTES;
      const jump = label === undefined ? offset : (this.#labels.get(label) ?? index) - index - 1;
      if (label !== undefined && jump < 0) throw new Error(`BPF program: no way forward to '${label}'`);
      view.setUint8(at, code);
      view.setUint8(at + 1, to | (from << 4)); // bit fields: the low half first where bytes are little-endian
      view.setInt16(at + 2, jump, true);
      view.setInt32(at + 4, immediate, true);
    });
    return new Uint8Array(view.buffer);
  }
}
